"""The hands of the model: they execute what the machines command, and watch the rules meanwhile."""

from __future__ import annotations

from collections import Counter, deque

from kv_transfer.ticket import messages as m
from kv_transfer.ticket import source, target
from kv_transfer.ticket import words as w
from kv_transfer.ticket.codec import encode
from kv_transfer.ticket.messages import TicketKey
from kv_transfer.ticket.states import Checking, Signs, SourceState, TargetPhase
from tests.unit.kv_transfer.ticket.invariants import check_source, check_target
from tests.unit.kv_transfer.ticket.parts import Decode, Flight, Prefill, rule

SIGNS = Signs(gap_s=1.0, begun_gap_s=0.5)


class Hands:
    """Two processes, the network, the supervisor, and how commands change them."""

    def __init__(self, checking: Checking = Checking.FULL, layers: int = 1, rank: int = 0) -> None:
        self.checking, self.layers, self.rank, self.now_s = checking, layers, rank, 0.0
        self.prefill, self.decode = Prefill(layers), Decode(layers)
        self.net: list[tuple[Prefill | Decode, bytes]] = []
        self.lost: set[type[m.Message]] = set()
        """Kinds of messages that get lost at present."""
        self.kills: list[Prefill] = []
        self.dying: list[Prefill] = []
        self.wanted: deque[tuple[TicketKey, int]] = deque()
        self.totals: dict[TicketKey, int] = {}
        self.begun: set[TicketKey] = set()
        self.quarantined: set[TicketKey] = set()
        self.seen: Counter = Counter()
        self.old: list[Decode] = []

    def _source(self, proc: Prefill, key: TicketKey) -> SourceState:
        return proc.sources.setdefault(key, SourceState(key, self.layers, self.rank, SIGNS))

    def _hand(self, proc, key: TicketKey, message: m.Message) -> None:
        match message:
            case m.Register():
                self._to_source(proc, key, w.TargetRegistered(message, self.now_s))
            case m.Withdraw():
                self._to_source(proc, key, w.Withdrawn(message))
            case m.Alive():
                self._to_target(key, w.PeerAlive(message, self.now_s))
            case m.Written():
                self._to_target(key, w.Notice(message))
            case m.Closed():
                self._to_target(key, w.PeerClosed(message))

    def _send(self, to: Prefill | Decode, message: m.Message) -> None:
        self.seen[type(message)] += 1
        if type(message) not in self.lost:
            self.net.append((to, encode(message)))

    def _to_source(self, proc: Prefill, key: TicketKey, event: w.SourceEvent) -> None:
        state = proc.sources.get(key)
        if state is None:
            return
        proc.sources[key], commands = source.step(state, event)
        check_source(proc.sources[key])
        for command in commands:
            self._do_source(proc, key, command)

    def _do_source(self, proc: Prefill, key: TicketKey, command: w.SourceCommand) -> None:
        self.seen[type(command)] += 1
        match command:
            case w.Send(message):
                quiet = all(f.key != key for f in proc.flights)
                rule(quiet or not isinstance(message, m.Closed), "closed with a write in flight")
                self._send(self.decode, message)
            case w.Pin(blocks):
                proc.pool.hold(("pin", key), blocks)
            case w.Unpin(blocks):
                proc.pool.give(("pin", key), blocks)
            case w.Release():
                self.seen[("release", id(proc), key)] += 1
                rule(self.seen[("release", id(proc), key)] == 1, "released twice")
                job = proc.jobs.pop(key, None)
                if job:
                    proc.pool.give(key, job.blocks)
            case w.Post():
                self._post(proc, key, command)

    def _post(self, proc: Prefill, key: TicketKey, post: w.Post) -> None:
        area = range(post.layer, post.layer + post.layers)
        pieces = [(i, layer) for i in range(len(post.sources)) for layer in area]
        for i, layer in pieces:
            data, what = proc.pool.content[post.sources[i]][layer], (key, post.first + i, layer)
            rule(data == what, f"{what[1:]} posted before it was computed")
            self.seen[("post", id(proc), what)] += 1
            rule(self.seen[("post", id(proc), what)] == 1, "posted twice")
        rule(self.now_s < post.before_s, "posted after the write deadline")
        sums = () if self.checking is Checking.OFF else tuple(range(len(post.sources)))
        notice = source.notice_of(proc.sources[key], post, sums)
        proc.flights.append(Flight(key, post, notice, self.decode.pool, pieces))
        self.seen["rectangle" if post.layers < self.layers else "all layers"] += 1

    def _to_target(self, key: TicketKey, event: w.TargetEvent) -> None:
        proc = self.decode
        state = proc.targets.get(key)
        if state is None:
            return
        proc.targets[key], commands = target.step(state, event)
        check_target(proc.targets[key])
        for command in commands:
            self._do_target(proc, key, command)

    def _do_target(self, proc: Decode, key: TicketKey, command: w.TargetCommand) -> None:
        self.seen[type(command)] += 1
        match command:
            case w.Send(message):
                if isinstance(message, m.Register):
                    rule(key in self.begun, f"blocks for {key} wait in the queue of prefill")
                self._send(proc.peer[key], message)
            case w.Admit():
                rule(key not in proc.admitted, "admitted twice")
                doomed = proc.targets[key].reason is not None
                rule(doomed or key in self.begun, f"{key} admitted before prefill has begun")
                proc.admitted.add(key)
            case w.Verify():
                proc.verifies.append((key, command))
            case w.Received():
                self._once(proc, key)
                data = [proc.pool.content[block] for block in proc.blocks[key]]
                all_layers = range(self.layers)
                good = [[(key, i, layer) for layer in all_layers] for i in range(self.totals[key])]
                rule(data == good, f"{key} starts on {data}")
                proc.running.add(key)
            case w.LoadFailed() | w.Freed():
                self._once(proc, key)
                proc.pool.give(key, proc.blocks.pop(key))
            case w.AskKill():
                self.kills.append(proc.peer[key])
            case w.Quarantine():
                rule(proc.targets[key].phase is TargetPhase.QUARANTINED, "quarantined in secret")
                self.quarantined.add(key)
            case w.Unquarantine():
                self.quarantined.remove(key)

    def _once(self, proc: Decode, key: TicketKey) -> None:
        self.seen[("end", id(proc), key)] += 1
        rule(self.seen[("end", id(proc), key)] == 1, "reported twice")

    def _stop_running(self, key: TicketKey) -> None:
        if key in self.decode.running:
            self.decode.running.remove(key)
            self.decode.pool.give(key, self.decode.blocks.pop(key))

    def check(self) -> None:
        """What holds after every move."""
        for key, state in self.prefill.sources.items():
            for post in state.flights:
                for block in post.sources:
                    rule(self.prefill.pool.holders[block][("pin", key)] > 0, "source not pinned")
        for held in self.decode.pool.holders:
            rule(len(held) <= 1, f"one block for {held}")
        for held in self.prefill.pool.holders:
            owners = {h if isinstance(h, TicketKey) else h[1] for h in held}
            rule(len(owners) <= 1, f"one block for {owners}")
