"""The life of one request as a pure state machine: events in, commands out.

`step` takes a frozen state and an event and returns the next state and what is to be done about
it. All transitions stand in one table. What is absent there cannot happen and raises; a closed
flow ignores everything, because late messages are normal. A flow ends exactly once, by one `Fail`
or one `Close`, and then each leg still open gets exactly one `AbortLeg`. Nothing here knows time,
links or front ends: the heart feeds the events and executes the commands. `life` has the words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from baton.errors import Reason
from baton.ids import Leg, LegId, WorkerId
from baton.messages import Dispatch
from router.life import (
    ATTEMPTS_MAX,
    LOG_ENTRIES_MAX,
    AbortLeg,
    Broke,
    ClientLeft,
    Close,
    Command,
    DeadlinePassed,
    Entry,
    Event,
    Fail,
    Finished,
    FlowState,
    Held,
    LegEnded,
    OpenLeg,
    Phase,
    PlaceAgain,
    Planned,
    Prefilled,
    SubmitLeg,
    TokensCame,
    Unplaced,
    WorkerLost,
)


class IllegalTransitionError(Exception):
    """An event that cannot happen in the phase a request is in. Carries the request's story."""

    def __init__(self, state: FlowState, event: Event) -> None:
        name = type(event).__name__
        super().__init__(f"{name} ({event.cause}) cannot happen in {state.phase}\n{story(state)}")


_Step: TypeAlias = tuple[FlowState, tuple[Command, ...]]
_Handler: TypeAlias = Callable[[FlowState, Any], _Step]


def step(state: FlowState, event: Event) -> _Step:
    """The next state, and what is to be done, in order.

    Raises IllegalTransitionError for what is not in the table: a second plan, or tokens or a finish
    before a leg that could produce them is out. A closed flow takes every event and does nothing.
    """
    if state.closed:
        return state, ()
    handler = TRANSITIONS.get((state.phase, type(event)))
    if handler is None:
        raise IllegalTransitionError(state, event)
    after, commands = handler(state, event)
    log = (*state.log, Entry(after.phase, event, commands))[-LOG_ENTRIES_MAX:]
    return replace(after, log=log), commands


# --- transitions ----------------------------------------------------------------------------------


def _start(state: FlowState, event: Planned) -> _Step:
    plan = event.plan
    state = replace(state, plan=plan)
    if plan.prefill is None:
        return _submit(state, Phase.DECODING, SubmitLeg(state.leg_id(Leg.SOLO), plan.decode))
    prefill = SubmitLeg(state.leg_id(Leg.PREFILL), plan.prefill, state.handoff())
    if plan.dispatch is Dispatch.SEQUENTIAL:
        return _submit(state, Phase.PREFILLING, prefill)
    decode = SubmitLeg(state.leg_id(Leg.DECODE), plan.decode, state.handoff())
    return _submit(state, Phase.PAIRED, prefill, decode)


def _hold(state: FlowState, _event: Held) -> _Step:
    return state, ()


def _give_up(state: FlowState, event: Unplaced) -> _Step:
    return _end(state, Fail(event.reason, event.message, event.retry_after_s))


def _hand_over(state: FlowState, event: Prefilled) -> _Step:
    plan = state.plan
    if plan is None or not _is_open_prefill(state, event.leg_id):
        return state, ()
    state = replace(state, legs=_without(state, event.leg_id))
    handoff = state.handoff(event.handed)
    decode = SubmitLeg(state.leg_id(Leg.DECODE), plan.decode, handoff)
    return _submit(state, Phase.DECODING, decode)


def _pair_prefilled(state: FlowState, event: Prefilled) -> _Step:
    if not _is_open_prefill(state, event.leg_id):
        return state, ()
    return replace(state, phase=Phase.DECODING, legs=_without(state, event.leg_id)), ()


def _note_prefilled(state: FlowState, event: Prefilled) -> _Step:
    """Its tokens overtook it, or it is late news of an attempt that is over."""
    if not _is_open_prefill(state, event.leg_id):
        return state, ()
    return replace(state, legs=_without(state, event.leg_id)), ()


def _stream(state: FlowState, _event: TokensCame) -> _Step:
    return replace(state, phase=Phase.STREAMING), ()


def _finish(state: FlowState, event: Finished) -> _Step:
    if event.engine_done:
        state = replace(state, legs=tuple(leg for leg in state.legs if not leg.answers))
    return _end(state, Close())


def _leg_ended(state: FlowState, event: LegEnded) -> _Step:
    leg = next((leg for leg in state.legs if leg.leg_id == event.leg_id), None)
    if leg is None:
        return state, ()
    state = replace(state, legs=_without(state, event.leg_id))
    if state.phase is Phase.STREAMING and not leg.answers:
        # Tokens prove that decode has all it needed of this leg.
        return state, ()
    return _fail(state, leg.worker_id, event.reason, event.message, event.retry_after_s)


def _worker_lost(state: FlowState, event: WorkerLost) -> _Step:
    needed = event.worker_id in _needed(state)
    left = tuple(leg for leg in state.legs if leg.worker_id != event.worker_id)
    state = replace(state, legs=left)
    if not needed:
        return state, ()
    message = f"Worker {event.worker_id} was lost."
    return _fail(state, event.worker_id, Reason.WORKER_LOST, message)


def _fail(
    state: FlowState,
    worker_id: WorkerId,
    reason: Reason,
    message: str,
    retry_after_s: float | None = None,
) -> _Step:
    """The attempt is over: another one where that can help, else the end."""
    if not _may_try_again(state, reason):
        return _end(state, Fail(reason, message, retry_after_s))
    aborts = tuple(AbortLeg(leg.leg_id, leg.worker_id) for leg in state.legs)
    after = replace(state, phase=Phase.NEW, attempt=state.attempt + 1, plan=None, legs=())
    return after, (*aborts, PlaceAgain(after.attempt, worker_id, reason, message, retry_after_s))


def _may_try_again(state: FlowState, reason: Reason) -> bool:
    """Not for the request's own faults; once tokens are out, only where another can go on."""
    streaming = state.phase is Phase.STREAMING
    return (
        reason in _ELSEWHERE
        and state.attempt + 1 < ATTEMPTS_MAX
        and (state.resumable or not streaming)
    )


_ELSEWHERE = frozenset(
    {
        Reason.WORKER_FULL,
        Reason.DRAINING,
        Reason.STARTING,
        Reason.WORKER_LOST,
        Reason.TRANSFER_FAILED,
        Reason.ENGINE_FAILED,
    }
)
"""What says something of a worker and nothing of the request."""


def _expire(state: FlowState, _event: DeadlinePassed) -> _Step:
    return _end(state, Fail(Reason.DEADLINE_EXCEEDED, f"Out of time while {state.phase.value}."))


def _leave(state: FlowState, _event: ClientLeft) -> _Step:
    return _end(state, Close(Reason.CANCELLED))


def _break(state: FlowState, _event: Broke) -> _Step:
    return _end(state, Fail(Reason.INTERNAL, "A fault in the router ended this request."))


_Row: TypeAlias = Mapping[type[Event], _Handler]

_ANYTIME: _Row = {
    Prefilled: _note_prefilled,
    LegEnded: _leg_ended,
    WorkerLost: _worker_lost,
    DeadlinePassed: _expire,
    ClientLeft: _leave,
    Broke: _break,
}
_ROWS: Mapping[Phase, _Row] = {
    Phase.NEW: {**_ANYTIME, Planned: _start, Held: _hold, Unplaced: _give_up},
    Phase.PREFILLING: {**_ANYTIME, Prefilled: _hand_over},
    Phase.PAIRED: {
        **_ANYTIME,
        Prefilled: _pair_prefilled,
        TokensCame: _stream,
        Finished: _finish,
    },
    Phase.DECODING: {**_ANYTIME, TokensCame: _stream, Finished: _finish},
    Phase.STREAMING: {**_ANYTIME, TokensCame: _stream, Finished: _finish},
}
TRANSITIONS: Mapping[tuple[Phase, type[Event]], _Handler] = {
    (phase, kind): handler for phase, row in _ROWS.items() for kind, handler in row.items()
}


def _submit(state: FlowState, phase: Phase, *commands: SubmitLeg) -> _Step:
    legs = (*state.legs, *(OpenLeg(c.leg_id, c.worker_id) for c in commands))
    return replace(state, phase=phase, legs=legs), commands


def _end(state: FlowState, last: Fail | Close) -> _Step:
    aborts = tuple(AbortLeg(leg.leg_id, leg.worker_id) for leg in state.legs)
    return replace(state, phase=Phase.CLOSED, legs=()), (*aborts, last)


def _needed(state: FlowState) -> set[WorkerId | None]:
    """The workers without which the current attempt cannot end well."""
    if state.plan is None:
        return set()
    if state.phase in (Phase.PREFILLING, Phase.PAIRED):
        return {state.plan.prefill, state.plan.decode}
    # Once prefill has reported, decode may still be fetching: if it cannot, it says so itself.
    return {leg.worker_id for leg in state.legs if leg.answers}


def _is_open_prefill(state: FlowState, leg_id: LegId) -> bool:
    return any(leg.leg_id == leg_id and not leg.answers for leg in state.legs)


def _without(state: FlowState, leg_id: LegId) -> tuple[OpenLeg, ...]:
    return tuple(leg for leg in state.legs if leg.leg_id != leg_id)


# --- what people and tests ask --------------------------------------------------------------------


def story(state: FlowState) -> str:
    """The life of the request, one line per event and command, times in seconds since the first."""
    head = f"request {state.request_id}: {state.phase.value}, attempt {state.attempt}"
    start_s = state.log[0].event.at_s if state.log else 0.0
    return "\n".join([head, *(line for entry in state.log for line in _told(entry, start_s))])


def check_invariants(state: FlowState) -> None:
    """Raises AssertionError when the state contradicts itself."""
    kinds = sorted(leg.leg_id.leg.value for leg in state.legs)
    assert kinds in _LEGS[state.phase], f"{state.phase.value} with legs {kinds}"
    assert (state.plan is None) <= (state.phase in (Phase.NEW, Phase.CLOSED))
    assert len(state.log) <= LOG_ENTRIES_MAX
    assert len(_ends(state.log)) == int(state.closed), "a life ends exactly once"
    for leg in state.legs:
        assert leg.leg_id == state.leg_id(leg.leg_id.leg), f"{leg.leg_id} is of another attempt"


_SOLO, _BOTH = [Leg.SOLO.value], [Leg.DECODE.value, Leg.PREFILL.value]
_DECODE, _PREFILL = [Leg.DECODE.value], [Leg.PREFILL.value]
_LEGS: Mapping[Phase, list[list[str]]] = {
    Phase.NEW: [[]],
    Phase.PREFILLING: [_PREFILL],
    Phase.PAIRED: [_BOTH],
    Phase.DECODING: [_DECODE, _SOLO],
    Phase.STREAMING: [_DECODE, _SOLO, _BOTH],
    Phase.CLOSED: [[]],
}


def _ends(log: Iterable[Entry]) -> list[Command]:
    return [c for entry in log for c in entry.commands if isinstance(c, Fail | Close)]


def _told(entry: Entry, start_s: float) -> list[str]:
    event = entry.event
    head = f"{type(event).__name__} -> {entry.phase.value}: {event.cause}"
    return [f"  +{event.at_s - start_s:.3f} s {head}", *(f"    {_said(c)}" for c in entry.commands)]


def _said(command: Command) -> str:
    match command:
        case SubmitLeg():
            handed = f", handed {len(command.handoff.handed)} bytes" if command.handoff else ""
            return f"submit {command.leg_id} to {command.worker_id}{handed}"
        case AbortLeg():
            return f"abort {command.leg_id} on {command.worker_id}"
        case PlaceAgain():
            return f"place again, {command.reason.value} at {command.why}"
        case Fail():
            return f"fail with {command.reason.value}: {command.message}"
        case Close():
            return f"close, {command.reason.value if command.reason else 'finished'}"
