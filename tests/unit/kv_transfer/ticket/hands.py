"""The hands of the model: they execute what the machines command, and watch the rules meanwhile."""

from __future__ import annotations

from collections import Counter, deque

from kv_transfer.ticket import source, target
from kv_transfer.ticket import words as w
from kv_transfer.ticket.codec import encode
from kv_transfer.ticket.states import Checking, SourceState, TargetPhase
from kv_transfer.ticket.words import TicketKey
from tests.unit.kv_transfer.ticket.parts import Decode, Flight, Prefill, rule


class Hands:
    """Two processes, the network, the supervisor, and how commands change them."""

    def __init__(self, checking: Checking = Checking.FULL) -> None:
        self.checking, self.now_s = checking, 0.0
        self.prefill, self.decode = Prefill(), Decode()
        self.net: list[tuple[Prefill | Decode, bytes]] = []
        self.kills: list[Prefill] = []
        self.dying: list[Prefill] = []
        self.wanted: deque[tuple[TicketKey, int]] = deque()
        self.totals: dict[TicketKey, int] = {}
        self.quarantined: set[TicketKey] = set()
        self.seen: Counter = Counter()
        self.old: list[Decode] = []

    def _source(self, proc: Prefill, key: TicketKey) -> SourceState:
        return proc.sources.setdefault(key, SourceState(key))

    def _hand(self, proc, key: TicketKey, message: w.Message) -> None:
        match message:
            case w.Register():
                self._to_source(proc, key, w.TargetRegistered(message, self.now_s))
            case w.Withdraw():
                self._to_source(proc, key, w.Withdrawn(message))
            case w.Written():
                self._to_target(key, w.Notice(message))
            case w.Closed():
                self._to_target(key, w.PeerClosed(message))

    def _to_source(self, proc: Prefill, key: TicketKey, event: w.SourceEvent) -> None:
        state = proc.sources.get(key)
        if state is None:
            return
        proc.sources[key], commands = source.step(state, event)
        for command in commands:
            self._do_source(proc, key, command)

    def _do_source(self, proc: Prefill, key: TicketKey, command: w.SourceCommand) -> None:
        self.seen[type(command)] += 1
        match command:
            case w.Send(message):
                quiet = all(f.key != key for f in proc.flights)
                rule(quiet, "closed with a write in flight")
                self.net.append((self.decode, encode(message)))
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
        for i, block in enumerate(post.sources):
            data, position = proc.pool.content[block], post.first + i
            rule(data == (key, position), f"position {position} posted before it was computed")
            self.seen[("post", id(proc), key, position)] += 1
            rule(self.seen[("post", id(proc), key, position)] == 1, "posted twice")
        rule(self.now_s < post.before_s, "posted after the write deadline")
        sums = () if self.checking is Checking.OFF else tuple(range(len(post.sources)))
        notice = source.notice_of(proc.sources[key], post, sums)
        left = list(range(len(post.sources)))
        proc.flights.append(Flight(key, post, notice, self.decode.pool, left))

    def _to_target(self, key: TicketKey, event: w.TargetEvent) -> None:
        proc = self.decode
        state = proc.targets.get(key)
        if state is None:
            return
        proc.targets[key], commands = target.step(state, event)
        for command in commands:
            self._do_target(proc, key, command)

    def _do_target(self, proc: Decode, key: TicketKey, command: w.TargetCommand) -> None:
        self.seen[type(command)] += 1
        match command:
            case w.Send(message):
                self.net.append((proc.peer[key], encode(message)))
            case w.Verify():
                proc.verifies.append((key, command))
            case w.Received():
                self._once(proc, key)
                data = [proc.pool.content[block] for block in proc.blocks[key]]
                good = data == [(key, i) for i in range(self.totals[key])]
                rule(good, f"{key} starts on {data}")
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
            source.check_invariants(state)
            for post in state.flights:
                for block in post.sources:
                    rule(self.prefill.pool.holders[block][("pin", key)] > 0, "source not pinned")
        for state in self.decode.targets.values():
            target.check_invariants(state)
        for held in self.decode.pool.holders:
            rule(len(held) <= 1, f"one block for {held}")
        for held in self.prefill.pool.holders:
            owners = {h if isinstance(h, TicketKey) else h[1] for h in held}
            rule(len(owners) <= 1, f"one block for {owners}")
