"""The prefill ends of all tickets of one engine: machines, posts in flight, early messages."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from baton.clock import Clock
from baton.errors import BatonError
from kv_transfer.agent import WriteState
from kv_transfer.endpoint import Blocks
from kv_transfer.ledger import Open, Recent
from kv_transfer.moving import AgentPort, Counters, Memory, MoverLimits, connect, word_of
from kv_transfer.orders import Abort, Begin, Cover, Finish, OpenSource, Preempt
from kv_transfer.outflow import Outflow
from kv_transfer.pair_tests import PairTests
from kv_transfer.ticket import codec, source
from kv_transfer.ticket import messages as m
from kv_transfer.ticket import words as w
from kv_transfer.ticket.states import Checking, SourcePhase, SourceState

_EARLY_MAX = 4096
_CLOSED_MAX = 65536
# A write costs some tenths of a millisecond whatever its size: layers of less wait for the next.
_LAYERS_BYTES_MIN = 256 * 1024
_SAMPLED_ONE_IN = 8
_DOUBT_DEADLINES = 4
"""So long decode has asked for this engine's death in vain, or has no reason to."""


@dataclass(slots=True)
class _Source:
    request_id: str
    peer: str
    state: SourceState
    waits_since: float | None = None
    """When the prompt was done while no target was known."""
    held: bool = True
    posted_s: float | None = None
    """When its first write was posted."""
    doubted_s: float | None = None
    """When a write of it was first in doubt."""
    covered_s: float = 0.0
    """When its last step was known to be computed."""


@dataclass(frozen=True, slots=True)
class _Flight:
    """A write that NIXL moves."""

    handle: Any
    size: int
    """Bytes."""
    posted_s: float


class Sending:
    """Belongs to the mover's thread. `sent` hears of request ids whose blocks are free to go."""

    def __init__(
        self,
        agent: AgentPort,
        limits: MoverLimits,
        clock: Clock,
        memory: Memory,
        counters: Counters,
        sent: Callable[[str], None],
    ) -> None:
        self.tests: PairTests | None = None
        """Whoever owns the agent sets it where pairs are to be tested."""
        self._agent = agent
        self._limits = limits
        self._clock = clock
        self._memory = memory
        self._counters = counters
        self._sent = sent
        layout = agent.endpoint().layout
        self._regions_per_layer = len(layout.regions) // layout.layers
        self._open = Open[_Source]()
        self._flights: dict[tuple[m.TicketKey, int], _Flight] = {}
        self._outflow = Outflow()
        self._early = Recent[m.TicketKey, m.Register](_EARLY_MAX)
        self._closed = Recent[m.TicketKey, bool](_CLOSED_MAX)
        """Whether all was written."""

    @property
    def tickets(self) -> int:
        return len(self._open)

    @property
    def writes(self) -> int:
        """Posts in flight."""
        return len(self._flights)

    @property
    def backlog_s(self) -> float:
        """Seconds until the posts in flight are done, at the pace of late.

        One that stands still beyond the write deadline is a fault, and no work.
        """
        now = self._clock.now()
        return self._outflow.seconds_for(sum(f.size for f in self._moving(now)), now)

    def _moving(self, now: float) -> list[_Flight]:
        latest_s = now - self._limits.write_deadline_s
        return [flight for flight in self._flights.values() if flight.posted_s > latest_s]

    # -- orders of the engine

    def open(self, order: OpenSource) -> None:
        if order.key in self._open:
            return
        peer, fault = connect(self._agent, order.peer, self._memory)
        if fault is None and self.tests is not None:
            self.tests.want(peer)
            fault = self.tests.refusal(peer)
        memory = self._memory
        state = SourceState(order.key, memory.layers, memory.rank, self._limits.signs)
        one = _Source(order.request_id, peer, state)
        self._open[order.key] = one
        early = self._early.pop(order.key, None)
        if fault is not None or order.key in self._closed:
            # Decode was told, or will find out itself, that nothing comes.
            self._step(one, w.Withdrawn(m.Withdraw(order.key)))
        elif early is not None:
            self._step(one, w.TargetRegistered(early, self._clock.now()))
        else:
            self._step(one, w.Tick(self._clock.now()))

    def cover(self, order: Cover, layers: int) -> None:
        """So many layers of a step are computed."""
        one = self._open.get(order.key)
        if one is None or self._is_too_little(one, order, layers):
            return
        one.covered_s = now = self._clock.now()
        event = w.Covered(order.source_epoch, order.blocks, order.computed, now, layers)
        self._step(one, event)

    def _is_too_little(self, one: _Source, order: Cover, layers: int) -> bool:
        if layers == self._memory.layers:
            return False
        fresh = sum(max(0, order.computed - end) for end in one.state.posted[:layers])
        per_layer = self._memory.block_bytes // self._memory.layers
        return not order.by_layer or fresh * per_layer < _LAYERS_BYTES_MIN

    def order(self, order: Begin | Preempt | Finish | Abort) -> None:
        one = self._open.get(order.key)
        if one is None:
            return
        now = self._clock.now()
        match order:
            case Begin():
                self._step(one, w.Begun(now))
            case Preempt():
                self._step(one, w.Preempted())
            case Finish():
                one.waits_since = now if one.state.register is None else None
                self._step(one, w.PromptDone())
            case Abort():
                one.held = order.held
                self._step(one, w.Dropped(order.why))

    # -- news

    def hear(self, peer: str, message: m.Register | m.Withdraw) -> None:
        one = self._open.get(message.key)
        if one is not None:
            # A peer whose endpoint in the order was unreadable has introduced itself since.
            one.peer = one.peer or peer
            self._hear_known(one, message)
        elif isinstance(message, m.Register) and self._closed.get(message.key):
            pass  # A repetition. An answer might overtake the last notice.
        elif message.key in self._closed or isinstance(message, m.Withdraw):
            # Nothing was posted for it here, and nothing will be: that is the proof decode needs.
            self._closed[message.key] = False
            closed = m.Closed(message.key, "no such prefill leg", self._memory.rank)
            self._agent.tell(peer, codec.encode(closed))
        else:
            self._early[message.key] = message

    def _hear_known(self, one: _Source, message: m.Register | m.Withdraw) -> None:
        if isinstance(message, m.Register):
            one.waits_since = None
            self._step(one, w.TargetRegistered(message, self._clock.now()))
        else:
            self._step(one, w.Withdrawn(message))

    def look_after_writes(self) -> None:
        """Asking is what lets notices leave, so each round asks for each post."""
        for (key, post_id), flight in list(self._flights.items()):
            state = self._agent.state(flight.handle)
            if state is not WriteState.UNDER_WAY:
                del self._flights[(key, post_id)]
                if state is WriteState.DONE:
                    self._outflow.done(flight.size, self._clock.now())
                else:
                    self._outflow.failed(self._clock.now())
                self._agent.release(flight.handle)
                self._ended(key, post_id, state)

    def _ended(self, key: m.TicketKey, post_id: int, state: WriteState) -> None:
        one = self._open.get(key)
        if one is None:
            return
        if state is WriteState.DONE:
            self._step(one, w.WriteDone(post_id))
            self._time(one)
        elif one.state.peer_dead:
            self._step(one, w.WriteFailed(post_id, "the peer died"))
        else:
            one.doubted_s = one.doubted_s or self._clock.now()
            self._step(one, w.WriteDoubted(post_id, "NIXL reports failure"))

    def _time(self, one: _Source) -> None:
        """The last write of a prompt is done."""
        state = one.state
        sending = (SourcePhase.OPENED, SourcePhase.STREAMING)
        if state.phase in sending or state.flights or state.reason or one.posted_s is None:
            return
        now = self._clock.now()
        self._counters.transfer.saw(now - one.posted_s)
        self._counters.exposed.saw(now - one.covered_s)
        one.posted_s = None

    @property
    def peers(self) -> set[str]:
        """Peers of open tickets."""
        return self._open.peers

    def is_hopeless(self, now: float) -> bool:
        """Whether a write has been in doubt for so long that only this engine's death ends it."""
        patience_s = _DOUBT_DEADLINES * self._limits.write_deadline_s
        since = (one.doubted_s for one in self._open.values())
        return any(doubted is not None and now - doubted > patience_s for doubted in since)

    @property
    def phases(self) -> Counter[str]:
        """Open tickets by state."""
        return self._open.phases

    def peer_dead(self, peer: str) -> None:
        """The peer's process has ended, and what it had sent has arrived."""
        for one in self._open.each(peer):
            self._step(one, w.PeerDead())
            # Its memory is gone: what was in doubt lands nowhere. Posts that NIXL still moves end
            # when NIXL says so.
            for post in one.state.flights:
                if (one.state.key, post.post_id) not in self._flights:
                    self._step(one, w.WriteFailed(post.post_id, "the peer died"))

    def tick(self, now: float) -> None:
        for one in self._open.each():
            self._step(one, w.Tick(now))
            if one.waits_since is not None and now - one.waits_since > self._limits.hold_s:
                one.waits_since = None
                self._step(one, w.Dropped("no target registered in time"))

    # -- the machine

    def _step(self, one: _Source, event: w.SourceEvent) -> None:
        one.state, commands = source.step(one.state, event)
        for command in commands:
            match command:
                case w.Post():
                    self._post(one, command)
                case w.Send() if not _is_needless(event, command.message):
                    self._agent.tell(one.peer, codec.encode(command.message))
                case w.Release() if one.held:
                    self._sent(one.request_id)
                case _:
                    pass  # The scheduler's half holds a ticket's blocks until its release.
        if one.state.closed and self._open.pop(one.state.key, None) is not None:
            self._closed[one.state.key] = one.state.reason is None
            if one.state.reason is not None:
                self._counters.ended[f"source: {word_of(one.state.reason)}"] += 1

    def _post(self, one: _Source, post: w.Post) -> None:
        if self._clock.now() >= post.before_s:
            self._step(one, w.WriteFailed(post.post_id, "write deadline passed"))
            return
        notice = codec.encode(source.notice_of(one.state, post, self._sums(one, post)))
        what = Blocks(post.sources, post.targets, post.layer, post.layers)
        try:
            handle = self._agent.write(one.peer, what, notice)
        except BatonError as error:
            self._step(one, w.WriteFailed(post.post_id, error.message))
            return
        now, per_layer = self._clock.now(), self._memory.block_bytes // self._memory.layers
        size = len(post.sources) * per_layer * post.layers
        if not self._moving(now):
            self._outflow.begins(now)
        self._flights[(one.state.key, post.post_id)] = _Flight(handle, size, now)
        one.posted_s = now if one.posted_s is None else one.posted_s
        self._counters.writes += 1
        self._counters.descriptors += what.runs() * post.layers * self._regions_per_layer
        self._counters.bytes_written += size

    def _sums(self, one: _Source, post: w.Post) -> tuple[int, ...]:
        sampled = self._limits.checking is Checking.SAMPLED
        if self._memory.sums is None or (sampled and not _is_sampled(one.state.key, post)):
            return ()
        return self._memory.sums(post.sources, post.layer, post.layers)


def _is_sampled(key: m.TicketKey, post: w.Post) -> bool:
    """The same for the same write, and unrelated to where it lies in a prompt."""
    name = f"{key.ticket_id} {key.epoch} {post.first} {post.layer}"
    return zlib.crc32(name.encode()) % _SAMPLED_ONE_IN == 0


def _is_needless(event: w.SourceEvent, message: m.Message) -> bool:
    """A proof that all was written says what the notices say, and may overtake the last of them;
    decode would take that for a loss. It is sent to whoever asks."""
    is_proof = isinstance(message, m.Closed) and message.reason is None
    return is_proof and not isinstance(event, w.Withdrawn)
