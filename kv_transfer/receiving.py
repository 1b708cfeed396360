"""The decode ends of all tickets of one engine: machines, checksums, failures."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from baton.clock import Clock
from kv_transfer.ledger import Open, Recent
from kv_transfer.moving import AgentPort, Counters, Memory, MoverLimits, connect, word_of
from kv_transfer.orders import Abort, Allocate, Decline, OpenTarget
from kv_transfer.ticket import codec, target
from kv_transfer.ticket import messages as m
from kv_transfer.ticket import words as w
from kv_transfer.ticket.states import TargetPhase, TargetState

_log = logging.getLogger("baton.kv_transfer")
_EARLY_MAX = 4096


@dataclass(slots=True)
class _Target:
    request_id: str
    peer: str
    state: TargetState


@dataclass(frozen=True, slots=True)
class Listener:
    """Who hears how loads end; request ids. `failed` also hears why."""

    admitted: Callable[[str], None]
    received: Callable[[str], None]
    failed: Callable[[str, str], None]


class Receiving:
    """Belongs to the mover's thread."""

    def __init__(
        self,
        agent: AgentPort,
        limits: MoverLimits,
        clock: Clock,
        memory: Memory,
        counters: Counters,
        listener: Listener,
    ) -> None:
        self._agent = agent
        self._limits = limits
        self._clock = clock
        self._memory = memory
        self._counters = counters
        self._listener = listener
        self._open = Open[_Target]()
        self._early = Recent[m.TicketKey, m.Alive | m.Closed](_EARLY_MAX)

    @property
    def tickets(self) -> int:
        return len(self._open)

    @property
    def is_written(self) -> bool:
        """Whether writes may be on their way here."""
        written = (TargetPhase.REGISTERED, TargetPhase.STREAMING)
        return any(one.state.phase in written for one in self._open.values())

    # -- orders of the engine

    def open(self, order: OpenTarget) -> None:
        if order.key in self._open:
            return
        memory, limits = self._memory, self._limits
        peer, fault = connect(self._agent, order.peer, memory)
        checking, patience = limits.checking, limits.patience
        state = TargetState(order.key, memory.layers, memory.rank, checking, patience)
        one = self._open[order.key] = _Target(order.request_id, peer, state)
        early = self._early.pop(order.key, None)
        if fault is not None:
            # Nothing is registered, so nothing can be under way.
            self._step(one, w.PeerClosed(m.Closed(order.key, fault, memory.rank)))
        elif early is not None:
            self.hear(early)

    def order(self, order: Allocate | Decline | Abort) -> None:
        one = self._open.get(order.key)
        if one is None:
            return
        match order:
            case Allocate():
                self._step(one, self._allocated(order))
            case Decline():
                self._step(one, w.NothingToLoad())
            case Abort():
                self._step(one, w.Aborted())

    def _allocated(self, order: Allocate) -> w.Allocated:
        deadline_s = self._limits.write_deadline_s
        now = self._clock.now()
        return w.Allocated(order.first, order.blocks, order.total, now, deadline_s)

    # -- news

    def hear(self, message: m.Written | m.Closed | m.Alive) -> None:
        one = self._open.get(message.key)
        if one is None:
            self._hear_unknown(message)
            return
        match message:
            case m.Written():
                self._step(one, w.Notice(message))
            case m.Closed():
                self._step(one, w.PeerClosed(message))
            case m.Alive():
                self._step(one, w.PeerAlive(message, self._clock.now()))

    def _hear_unknown(self, message: m.Written | m.Closed | m.Alive) -> None:
        if isinstance(message, m.Written):
            self._counters.late_notices += 1
            return
        # The decode leg may be on its way.
        self._early[message.key] = message

    @property
    def peers(self) -> set[str]:
        """Peers of open tickets."""
        return self._open.peers

    @property
    def phases(self) -> Counter[str]:
        """Open tickets by state."""
        return self._open.phases

    @property
    def accused(self) -> set[str]:
        """Peers whose death is asked for."""
        return {one.peer for one in self._open.values() if one.state.asks}

    @property
    def fenced_blocks(self) -> int:
        """Blocks that wait for a proof."""
        return self._blocks_in(TargetPhase.FENCING, TargetPhase.QUARANTINED)

    @property
    def quarantined_blocks(self) -> int:
        """Those for which asking for the peer's death did not help."""
        return self._blocks_in(TargetPhase.QUARANTINED)

    def _blocks_in(self, *phases: TargetPhase) -> int:
        states = (one.state for one in self._open.values())
        return sum(len(s.register.blocks) for s in states if s.phase in phases and s.register)

    def peer_dead(self, peer: str) -> None:
        """The peer's process has ended, and what it had sent has arrived."""
        for one in self._open.each(peer):
            self._step(one, w.PeerDead())

    def tick(self, now: float) -> None:
        for one in self._open.each():
            self._step(one, w.Tick(now))

    # -- the machine

    def _step(self, one: _Target, event: w.TargetEvent) -> None:
        one.state, commands = target.step(one.state, event)
        for command in commands:
            self._carry_out(one, command)
        if one.state.closed and self._open.pop(one.state.key, None) is not None:
            self._counters.late_notices += one.state.late
            if one.state.reason is not None:
                self._counters.ended[f"target: {word_of(one.state.reason)}"] += 1

    def _carry_out(self, one: _Target, command: w.TargetCommand) -> None:
        match command:
            case w.Send():
                self._agent.tell(one.peer, codec.encode(command.message))
            case w.Verify():
                self._step(one, w.Verified(command.verify_id, self._is_good(command)))
            case w.Admit():
                self._listener.admitted(one.request_id)
            case w.Received():
                self._counters.received += 1
                self._listener.received(one.request_id)
            case w.Freed():
                self._listener.received(one.request_id)
            case w.LoadFailed():
                self._listener.failed(one.request_id, command.reason)
            case w.AskKill():
                _log.error("prefill %s gives no proof: %s", one.peer, command.reason)
            case w.Quarantine():
                _log.error("%d blocks are quarantined", len(command.blocks))
            case w.Unquarantine():
                _log.warning("%d blocks are out of quarantine", len(command.blocks))

    def _is_good(self, command: w.Verify) -> bool:
        sums = self._memory.sums
        return sums is None or sums(command.blocks, command.layer, command.layers) == command.sums
