"""The decode end of a ticket as a pure state machine: events in, commands out.

Registered blocks are the target of writes that nobody can cancel. So they are given up only on
proof that no write is left: prefill said so, prefill is dead, or every position has come (each is
written at most once). Time is no proof: it only makes this end press for one. A load is good when
every position is in place and its checksums agree. See "the rules" below. Each rank of an engine
has its own machine, paired with the same rank of prefill; the engine waits for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from kv_transfer.ticket.landing import area, everything
from kv_transfer.ticket.messages import Alive, Closed, Register, TicketKey, Withdraw, Written
from kv_transfer.ticket.states import (
    LOG_ENTRIES_MAX,
    Checking,
    TargetEntry,
    TargetPhase,
    TargetState,
)
from kv_transfer.ticket.story import target_story
from kv_transfer.ticket.words import (
    Aborted,
    Admit,
    Allocated,
    AskKill,
    Freed,
    IllegalTransitionError,
    LoadFailed,
    NothingToLoad,
    Notice,
    PeerAlive,
    PeerClosed,
    PeerDead,
    Quarantine,
    Received,
    Send,
    TargetCommand,
    TargetEvent,
    Tick,
    Unquarantine,
    Verified,
    Verify,
)

_Step: TypeAlias = tuple[TargetState, tuple[TargetCommand, ...]]
_Handler: TypeAlias = Callable[[TargetState, Any], _Step]


def step(state: TargetState, event: TargetEvent) -> _Step:
    """The next state, and what is to be done, in order.

    Raises IllegalTransitionError for what the engine cannot do, blocks for a ticket that has some
    or has closed. Repeated and late messages are normal and change nothing but `late`.
    """
    handler = TRANSITIONS.get((state.phase, type(event)))
    if handler is None:
        raise IllegalTransitionError(f"{event} cannot happen\n{target_story(state)}")
    after, commands = handler(state, event)
    if not commands and after.phase is state.phase:
        return after, commands
    log = (*state.log, TargetEntry(after.phase, event, commands))[-LOG_ENTRIES_MAX:]
    return replace(after, log=log), commands


# --- the rules ------------------------------------------------------------------------------------


def is_mine(state: TargetState, key: TicketKey) -> bool:
    """The epoch check: whether a message concerns this attempt."""
    return key == state.key


def is_my_rank(state: TargetState, message: Written | Closed) -> bool:
    """The rank check: another rank's words say nothing of this rank's blocks."""
    return message.rank == state.rank


def is_fenced(state: TargetState) -> bool:
    """The fence: whether no write can hit the blocks any more. Proof only, never time."""
    return state.peer_dead or state.quiet or is_full(state)


def is_full(state: TargetState) -> bool:
    """Whether every layer of every position is in place."""
    return state.register is not None and state.landed == everything(state.register, state.layers)


def is_good(state: TargetState) -> bool:
    """Whether the engine may start, as far as this rank goes: all is in place, and all checksums
    agreed."""
    return state.reason is None and not state.verifying and is_full(state)


def is_news(state: TargetState, written: Written) -> bool:
    """Whether a notice names positions and layers of this attempt that have not come before."""
    register = state.register
    if register is None or not is_mine(state, written.key) or not is_my_rank(state, written):
        return False
    if written.first < register.first or written.first + written.count > register.total:
        return False
    if written.layer + written.layers > state.layers:
        return False
    return not state.landed & area(register, written)


def may_admit(alive: Alive) -> bool:
    """The credit: blocks are reserved once prefill has begun. Else its queue would hold them."""
    return alive.begun


# --- transitions ----------------------------------------------------------------------------------


def _allocate(state: TargetState, event: Allocated) -> _Step:
    if state.reason is not None:
        closed, tell = _decline(state, NothingToLoad())
        return closed, (*tell, LoadFailed(state.reason))
    register = Register(state.key, event.first, event.blocks, event.total, event.write_deadline_s)
    state = replace(
        state,
        phase=TargetPhase.REGISTERED,
        register=register,
        deadline_s=event.now_s + event.write_deadline_s,
    )
    return state, (Send(register),)


def _decline(state: TargetState, _event: NothingToLoad | Aborted) -> _Step:
    """Nothing is registered, so nothing is left but to let prefill go."""
    tell = () if state.peer_dead else (Send(Withdraw(state.key)),)
    return replace(state, phase=TargetPhase.CLOSED), tell


def _hear(state: TargetState, event: PeerAlive) -> _Step:
    if not is_mine(state, event.alive.key):
        return _late(state, event)
    heard = replace(state, heard_s=event.now_s)
    return _admit(heard) if may_admit(event.alive) else (heard, ())


def _register_again(state: TargetState, event: PeerAlive) -> _Step:
    """Prefill still asks, so the registration may be lost."""
    if (register := state.register) is None or not is_mine(state, event.alive.key):
        return _late(state, event)
    return state, (Send(register),)


def _admit(state: TargetState) -> _Step:
    return (state, ()) if state.admitted else (replace(state, admitted=True), (Admit(),))


def _doom(state: TargetState, reason: str) -> _Step:
    return _admit(replace(state, reason=state.reason or reason))


def _doom_dead(state: TargetState, _event: PeerDead) -> _Step:
    return _doom(replace(state, peer_dead=True), "prefill died")


def _doom_closed(state: TargetState, event: PeerClosed) -> _Step:
    if not is_mine(state, event.closed.key) or not is_my_rank(state, event.closed):
        return _late(state, event)
    return _doom(state, f"prefill closed: {event.closed.reason}")


def _listen(state: TargetState, event: Tick) -> _Step:
    if state.heard_s is None:
        return replace(state, heard_s=event.now_s), ()
    if event.now_s - state.heard_s < state.patience.silence_s:
        return state, ()
    return _doom(state, "prefill gives no sign of life")


def _notice(state: TargetState, event: Notice) -> _Step:
    written, register = event.written, state.register
    if register is None or not is_news(state, written):
        return _late(state, event)
    landed = state.landed | area(register, written)
    state = replace(state, landed=landed, phase=TargetPhase.STREAMING)
    if state.checking is Checking.OFF or (state.checking is Checking.SAMPLED and not written.sums):
        return _advance(state)
    if not written.sums:
        return _fail(state, "a write came without checksums")
    start = written.first - register.first
    blocks = register.blocks[start : start + written.count]
    layers = written.layer, written.layers
    verify = Verify(state.verifies, written.first, blocks, written.sums, *layers)
    verifying = state.verifying | {verify.verify_id}
    state, commands = _advance(replace(state, verifies=state.verifies + 1, verifying=verifying))
    return state, (verify, *commands)


def _notice_fencing(state: TargetState, event: Notice) -> _Step:
    if state.register is None or not is_news(state, event.written):
        return _late(state, event)
    landed = state.landed | area(state.register, event.written)
    return _advance(replace(state, landed=landed))


def _closed(state: TargetState, event: PeerClosed) -> _Step:
    if not is_mine(state, event.closed.key) or not is_my_rank(state, event.closed):
        return _late(state, event)
    state = replace(state, quiet=True)
    if is_full(state):
        return _advance(state)
    reason = event.closed.reason or "before every position had come"
    return _fail(state, f"prefill closed: {reason}")


def _peer_dead(state: TargetState, _event: PeerDead) -> _Step:
    return _fail(replace(state, peer_dead=True), "prefill died")


def _landed_peer_dead(state: TargetState, _event: PeerDead) -> _Step:
    return replace(state, peer_dead=True), ()


def _abort(state: TargetState, _event: Aborted) -> _Step:
    return _fail(replace(state, aborted=True), "aborted")


def _verified(state: TargetState, event: Verified) -> _Step:
    if event.verify_id not in state.verifying:
        return state, ()
    state = replace(state, verifying=state.verifying - {event.verify_id})
    return _advance(state) if event.ok else _fail(state, "checksums differ")


def _expire(state: TargetState, event: Tick) -> _Step:
    if event.now_s < state.deadline_s:
        return state, ()
    return _fail(state, "write deadline passed")


def _remind(state: TargetState, event: Tick) -> _Step:
    """Ask again for the proof, and after the deadline for the peer's death."""
    patience, now_s = state.patience, event.now_s
    if state.remind_s is None:
        return replace(state, gap_s=patience.gap_s, remind_s=now_s + patience.gap_s), ()
    kill = now_s >= state.deadline_s + patience.grace_s
    if now_s < state.remind_s and not (kill and state.asks == 0):
        return state, ()
    gap_s = min(state.gap_s * 2, patience.gap_max_s)
    gap_s = patience.gap_s if kill and state.asks == 0 else gap_s
    state = replace(state, asks=state.asks + kill, gap_s=gap_s, remind_s=now_s + gap_s)
    ask = (AskKill(state.reason or ""),) if kill else ()
    state, held = _quarantine(state)
    return state, (Send(Withdraw(state.key)), *ask, *held)


def _quarantine(state: TargetState) -> _Step:
    register = state.register
    fencing = state.phase is TargetPhase.FENCING
    if register is None or not fencing or state.asks < state.patience.asks_max:
        return state, ()
    return replace(state, phase=TargetPhase.QUARANTINED), (Quarantine(register.blocks),)


def _late(state: TargetState, _event: TargetEvent) -> _Step:
    return replace(state, late=state.late + 1), ()


def _ignore(state: TargetState, _event: TargetEvent) -> _Step:
    return state, ()


def _fail(state: TargetState, reason: str) -> _Step:
    """The load cannot end well: wait for the fence. The first reason counts."""
    asked = state.phase in (TargetPhase.FENCING, TargetPhase.QUARANTINED)
    state = replace(state, reason=state.reason or reason)
    if not asked:
        state = replace(state, phase=TargetPhase.FENCING)
    if asked or is_fenced(state):
        return _advance(state)
    return state, (Send(Withdraw(state.key)),)


def _advance(state: TargetState) -> _Step:
    """Land, start or give up, as far as the rules allow it."""
    if state.phase in (TargetPhase.FENCING, TargetPhase.QUARANTINED):
        return _give_up(state) if is_fenced(state) else (state, ())
    if is_good(state):
        return replace(state, phase=TargetPhase.CLOSED), (Received(),)
    return replace(state, phase=TargetPhase.LANDED if is_full(state) else state.phase), ()


def _give_up(state: TargetState) -> _Step:
    last = Freed() if state.aborted else LoadFailed(state.reason or "")
    closed = replace(state, phase=TargetPhase.CLOSED)
    if state.phase is TargetPhase.QUARANTINED and state.register is not None:
        return closed, (Unquarantine(state.register.blocks), last)
    return closed, (last,)


_Row: TypeAlias = Mapping[type[TargetEvent], _Handler]

_OPEN: _Row = {
    Allocated: _allocate,
    NothingToLoad: _decline,
    Aborted: _decline,
    PeerAlive: _hear,
    Notice: _late,
    PeerClosed: _doom_closed,
    PeerDead: _doom_dead,
    Tick: _listen,
}
_LOADING: _Row = {
    PeerAlive: _ignore,
    Notice: _notice,
    PeerClosed: _closed,
    PeerDead: _peer_dead,
    Aborted: _abort,
    Verified: _verified,
    Tick: _expire,
}
_FENCE: _Row = {**_LOADING, Notice: _notice_fencing, Verified: _ignore, Tick: _remind}
_ROWS: Mapping[TargetPhase, _Row] = {
    TargetPhase.OPENED: _OPEN,
    TargetPhase.REGISTERED: {**_LOADING, PeerAlive: _register_again},
    TargetPhase.STREAMING: _LOADING,
    TargetPhase.LANDED: {
        **_LOADING,
        Notice: _late,
        PeerDead: _landed_peer_dead,
        Tick: _ignore,
    },
    TargetPhase.FENCING: _FENCE,
    TargetPhase.QUARANTINED: _FENCE,
    TargetPhase.CLOSED: {
        NothingToLoad: _ignore,
        PeerAlive: _ignore,
        Notice: _late,
        PeerClosed: _ignore,
        PeerDead: _ignore,
        Aborted: _ignore,
        Verified: _ignore,
        Tick: _ignore,
    },
}
TRANSITIONS: Mapping[tuple[TargetPhase, type[TargetEvent]], _Handler] = {
    (phase, kind): handler for phase, row in _ROWS.items() for kind, handler in row.items()
}
