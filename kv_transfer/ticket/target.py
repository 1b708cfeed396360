"""The decode end of a ticket as a pure state machine: events in, commands out.

Registered blocks are the target of writes that nobody can cancel. So they are given up only on
proof that no write is left: prefill said so, prefill is dead, or every position has come (each is
written at most once). Time is no proof: it only makes this end press for one. A load counts as
good when every position of every rank is in place and its checksums agree. Each rule is one small
function under "the rules".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from kv_transfer.ticket.states import (
    LOG_ENTRIES_MAX,
    Checking,
    TargetEntry,
    TargetPhase,
    TargetState,
)
from kv_transfer.ticket.words import (
    Aborted,
    Allocated,
    AskKill,
    Freed,
    IllegalTransitionError,
    LoadFailed,
    NothingToLoad,
    Notice,
    PeerClosed,
    PeerDead,
    Quarantine,
    Received,
    Register,
    Send,
    TargetCommand,
    TargetEvent,
    Tick,
    TicketKey,
    Unquarantine,
    Verified,
    Verify,
    Withdraw,
    Written,
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
        raise IllegalTransitionError(f"{event} cannot happen\n{story(state)}")
    after, commands = handler(state, event)
    if not commands and after.phase is state.phase:
        return after, commands
    log = (*state.log, TargetEntry(after.phase, event, commands))[-LOG_ENTRIES_MAX:]
    return replace(after, log=log), commands


# --- the rules ------------------------------------------------------------------------------------


def is_mine(state: TargetState, key: TicketKey) -> bool:
    """The epoch check: whether a message concerns this attempt."""
    return key == state.key


def is_fenced(state: TargetState) -> bool:
    """The fence: whether no write can hit the blocks any more. Proof only, never time."""
    ranks = range(state.ranks)
    return state.peer_dead or all(r in state.quiet_ranks or is_full(state, r) for r in ranks)


def is_full(state: TargetState, rank: int) -> bool:
    """Whether every position of this rank is in place."""
    return state.register is not None and state.landed[rank] == _bits(0, len(state.register.blocks))


def is_good(state: TargetState) -> bool:
    """Whether the engine may start: all ranks are full and all checksums agreed."""
    ranks = range(state.ranks)
    return state.reason is None and not state.verifying and all(is_full(state, r) for r in ranks)


def is_news(state: TargetState, written: Written) -> bool:
    """Whether a notice names positions of this attempt of which none has come before."""
    register = state.register
    if register is None or not is_mine(state, written.key) or written.rank >= state.ranks:
        return False
    if written.first < register.first or written.first + written.count > register.total:
        return False
    return not state.landed[written.rank] & _bits(written.first - register.first, written.count)


# --- transitions ----------------------------------------------------------------------------------


def _allocate(state: TargetState, event: Allocated) -> _Step:
    if state.reason is not None:
        return replace(state, phase=TargetPhase.CLOSED), (LoadFailed(state.reason),)
    register = Register(state.key, event.first, event.blocks, event.total, event.write_deadline_s)
    state = replace(
        state,
        phase=TargetPhase.REGISTERED,
        register=register,
        deadline_s=event.now_s + event.write_deadline_s,
        landed=(0,) * state.ranks,
    )
    return state, (Send(register),)


def _decline(state: TargetState, _event: NothingToLoad | Aborted) -> _Step:
    """Nothing is registered, so nothing is left but to let prefill go."""
    tell = () if state.peer_dead else (Send(Withdraw(state.key)),)
    return replace(state, phase=TargetPhase.CLOSED), tell


def _doom(state: TargetState, _event: PeerDead) -> _Step:
    return replace(state, peer_dead=True, reason="prefill died"), ()


def _doom_closed(state: TargetState, event: PeerClosed) -> _Step:
    if not is_mine(state, event.closed.key) or event.closed.rank >= state.ranks:
        return _late(state, event)
    return replace(state, reason=f"prefill closed: {event.closed.reason}"), ()


def _notice(state: TargetState, event: Notice) -> _Step:
    written, register = event.written, state.register
    if register is None or not is_news(state, written):
        return _late(state, event)
    state = replace(_mark(state, register, written), phase=TargetPhase.STREAMING)
    if state.checking is Checking.OFF or (state.checking is Checking.SAMPLED and not written.sums):
        return _advance(state)
    if not written.sums:
        return _fail(state, "a write came without checksums")
    start = written.first - register.first
    blocks = register.blocks[start : start + written.count]
    verify = Verify(state.verifies, written.rank, written.first, blocks, written.sums)
    verifying = state.verifying | {verify.verify_id}
    state, commands = _advance(replace(state, verifies=state.verifies + 1, verifying=verifying))
    return state, (verify, *commands)


def _notice_fencing(state: TargetState, event: Notice) -> _Step:
    if state.register is None or not is_news(state, event.written):
        return _late(state, event)
    return _advance(_mark(state, state.register, event.written))


def _closed(state: TargetState, event: PeerClosed) -> _Step:
    rank, reason = event.closed.rank, event.closed.reason
    if not is_mine(state, event.closed.key) or rank >= state.ranks:
        return _late(state, event)
    state = replace(state, quiet_ranks=state.quiet_ranks | {rank})
    if is_full(state, rank):
        return _advance(state)
    return _fail(state, f"prefill closed: {reason or 'before every position had come'}")


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


def _mark(state: TargetState, register: Register, written: Written) -> TargetState:
    news = _bits(written.first - register.first, written.count)
    landed = tuple(b | news if r == written.rank else b for r, b in enumerate(state.landed))
    return replace(state, landed=landed)


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
    full = all(is_full(state, rank) for rank in range(state.ranks))
    return replace(state, phase=TargetPhase.LANDED if full else state.phase), ()


def _give_up(state: TargetState) -> _Step:
    last = Freed() if state.aborted else LoadFailed(state.reason or "")
    closed = replace(state, phase=TargetPhase.CLOSED)
    if state.phase is TargetPhase.QUARANTINED and state.register is not None:
        return closed, (Unquarantine(state.register.blocks), last)
    return closed, (last,)


def _bits(start: int, count: int) -> int:
    return ((1 << count) - 1) << start


_Row: TypeAlias = Mapping[type[TargetEvent], _Handler]

_OPEN: _Row = {
    Allocated: _allocate,
    NothingToLoad: _decline,
    Aborted: _decline,
    Notice: _late,
    PeerClosed: _doom_closed,
    PeerDead: _doom,
    Tick: _ignore,
}
_LOADING: _Row = {
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
    TargetPhase.REGISTERED: _LOADING,
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


# --- what people and tests ask --------------------------------------------------------------------


def story(state: TargetState) -> str:
    """What happened to the decode end, one line per event and command."""
    head = f"target of {state.key.ticket_id} epoch {state.key.epoch}: {state.phase.value}"
    lines = [f"{head}, {state.reason or 'no fault'}, {state.late} late"]
    for entry in state.log:
        lines.append(f"  {entry.event} -> {entry.phase.value}")
        lines.extend(f"    {command}" for command in entry.commands)
    return "\n".join(lines)


def check_invariants(state: TargetState) -> None:
    """Raises AssertionError when the state contradicts itself."""
    lasts = Received | LoadFailed | Freed
    ends = [c for entry in state.log for c in entry.commands if isinstance(c, lasts)]
    assert len(ends) <= 1, "a load is reported once"
    assert state.closed or not ends, "reported before the end"
    assert not state.closed or state.register is None or ends, "closed without a report"
    assert len(state.log) <= LOG_ENTRIES_MAX
    loading = (TargetPhase.REGISTERED, TargetPhase.STREAMING, TargetPhase.LANDED)
    assert state.phase not in loading or state.reason is None, "a failed load goes on"
    if state.register is None:
        assert state.phase in (TargetPhase.OPENED, TargetPhase.CLOSED)
        return
    everything = _bits(0, len(state.register.blocks))
    assert all(landed | everything == everything for landed in state.landed), "beyond its blocks"
    if state.phase is TargetPhase.LANDED:
        assert state.verifying, "landed and verified, and not reported"
