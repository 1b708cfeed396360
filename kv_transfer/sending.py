"""The prefill ends of all tickets of one engine: machines, posts in flight, early messages."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from baton.clock import Clock
from baton.errors import BatonError
from kv_transfer.agent import WriteState
from kv_transfer.moving import AgentPort, Counters, Memory, MoverLimits, connect
from kv_transfer.orders import Abort, Cover, Finish, OpenSource, Preempt
from kv_transfer.ticket import codec, source
from kv_transfer.ticket import words as w
from kv_transfer.ticket.states import SourceState

_EARLY_MAX = 4096
_CLOSED_MAX = 65536


@dataclass(slots=True)
class _Source:
    request_id: str
    peer: str
    state: SourceState
    waits_since: float | None = None
    """When the prompt was done while no target was known."""
    held: bool = True


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
        self._agent = agent
        self._limits = limits
        self._clock = clock
        self._memory = memory
        self._counters = counters
        self._sent = sent
        self._open: dict[w.TicketKey, _Source] = {}
        self._flights: dict[tuple[w.TicketKey, int], Any] = {}
        self._early: OrderedDict[w.TicketKey, w.Register] = OrderedDict()
        self._closed: OrderedDict[w.TicketKey, None] = OrderedDict()

    @property
    def tickets(self) -> int:
        return len(self._open)

    @property
    def writes(self) -> int:
        """Posts in flight."""
        return len(self._flights)

    # -- orders of the engine

    def open(self, order: OpenSource) -> None:
        if order.key in self._open:
            return
        peer, fault = connect(self._agent, order.peer)
        one = _Source(order.request_id, peer, SourceState(order.key))
        self._open[order.key] = one
        early = self._early.pop(order.key, None)
        if fault is not None or order.key in self._closed:
            # Decode was told, or will find out itself, that nothing comes.
            self._step(one, w.Withdrawn(w.Withdraw(order.key)))
        elif early is not None:
            self._step(one, w.TargetRegistered(early, self._clock.now()))

    def order(self, order: Cover | Preempt | Finish | Abort) -> None:
        one = self._open.get(order.key)
        if one is None:
            return
        now = self._clock.now()
        match order:
            case Cover():
                event = w.Covered(order.source_epoch, order.blocks, order.computed, now)
                self._step(one, event)
            case Preempt():
                self._step(one, w.Preempted())
            case Finish():
                one.waits_since = now if one.state.register is None else None
                self._step(one, w.PromptDone())
            case Abort():
                one.held = order.held
                self._step(one, w.Dropped(order.why))

    # -- news

    def hear(self, peer: str, message: w.Register | w.Withdraw) -> None:
        one = self._open.get(message.key)
        if one is not None:
            # A peer whose endpoint in the order was unreadable has introduced itself since.
            one.peer = one.peer or peer
            self._hear_known(one, message)
        elif message.key in self._closed or isinstance(message, w.Withdraw):
            # Nothing was posted for it here, and nothing will be: that is the proof decode needs.
            self._remember(message.key)
            self._agent.tell(peer, codec.encode(w.Closed(message.key, "no such prefill leg")))
        else:
            self._early[message.key] = message
            if len(self._early) > _EARLY_MAX:
                self._early.popitem(last=False)

    def _hear_known(self, one: _Source, message: w.Register | w.Withdraw) -> None:
        if isinstance(message, w.Register):
            one.waits_since = None
            self._step(one, w.TargetRegistered(message, self._clock.now()))
        else:
            self._step(one, w.Withdrawn(message))

    def look_after_writes(self) -> None:
        """Asking is what lets notices leave, so each round asks for each post."""
        for (key, post_id), handle in list(self._flights.items()):
            state = self._agent.state(handle)
            if state is not WriteState.UNDER_WAY:
                del self._flights[(key, post_id)]
                self._agent.release(handle)
                self._ended(key, post_id, state)

    def _ended(self, key: w.TicketKey, post_id: int, state: WriteState) -> None:
        one = self._open.get(key)
        if one is None:
            return
        if state is WriteState.DONE:
            self._step(one, w.WriteDone(post_id))
        else:
            self._step(one, w.WriteFailed(post_id, "NIXL reports failure"))

    @property
    def peers(self) -> set[str]:
        """Peers of open tickets."""
        return {one.peer for one in self._open.values()}

    def peer_dead(self, peer: str) -> None:
        """The peer's process has ended, and what it had sent has arrived."""
        for one in list(self._open.values()):
            if one.peer == peer:
                self._step(one, w.PeerDead())

    def tick(self, now: float) -> None:
        for one in list(self._open.values()):
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
            self._remember(one.state.key)

    def _post(self, one: _Source, post: w.Post) -> None:
        if self._clock.now() >= post.before_s:
            self._step(one, w.WriteFailed(post.post_id, "write deadline passed"))
            return
        sums = self._memory.sums(post.sources) if self._memory.sums is not None else ()
        notice = codec.encode(source.notice_of(one.state, post, sums))
        try:
            handle = self._agent.write(one.peer, post.sources, post.targets, notice)
        except BatonError as error:
            self._step(one, w.WriteFailed(post.post_id, error.message))
            return
        self._counters.writes += 1
        self._counters.bytes_written += len(post.sources) * self._memory.block_bytes
        self._flights[(one.state.key, post.post_id)] = handle

    def _remember(self, key: w.TicketKey) -> None:
        self._closed[key] = None
        if len(self._closed) > _CLOSED_MAX:
            self._closed.popitem(last=False)


def _is_needless(event: w.SourceEvent, message: w.Message) -> bool:
    """A proof that all was written says what the notices say, and may overtake the last of them;
    decode would take that for a loss. It is sent to whoever asks."""
    is_proof = isinstance(message, w.Closed) and message.reason is None
    return is_proof and not isinstance(event, w.Withdrawn)
