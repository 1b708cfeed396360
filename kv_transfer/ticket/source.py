"""The prefill end of a ticket as a pure state machine: events in, commands out.

It posts each position at most once, only when a completed step computed it and before the write
deadline; it pins what it posts; it tells decode that it is done only when nothing is in flight;
and it lets the engine free the blocks once. Whoever drives it applies the commands of one step in
order and before the engine schedules again, or a block may change hands between Covered and Pin.
Each rule is one small function under "the rules".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from kv_transfer.ticket.messages import Alive, Closed, Register, TicketKey, Written
from kv_transfer.ticket.states import LOG_ENTRIES_MAX, SourceEntry, SourcePhase, SourceState
from kv_transfer.ticket.story import source_story
from kv_transfer.ticket.words import (
    Begun,
    Covered,
    Dropped,
    IllegalTransitionError,
    PeerDead,
    Pin,
    Post,
    Preempted,
    PromptDone,
    Release,
    Send,
    SourceCommand,
    SourceEvent,
    TargetRegistered,
    Tick,
    Unpin,
    Withdrawn,
    WriteDone,
    WriteDoubted,
    WriteFailed,
)

_Step: TypeAlias = tuple[SourceState, tuple[SourceCommand, ...]]
_Handler: TypeAlias = Callable[[SourceState, Any], _Step]


def step(state: SourceState, event: SourceEvent) -> _Step:
    """The next state, and what is to be done, in order.

    Raises IllegalTransitionError for what the engine cannot do, a preemption after the end of the
    request. Repeated and late messages are normal and change nothing.
    """
    handler = TRANSITIONS.get((state.phase, type(event)))
    if handler is None:
        raise IllegalTransitionError(f"{event} cannot happen\n{source_story(state)}")
    after, commands = handler(state, event)
    is_sign = isinstance(event, Tick) and after.phase is SourcePhase.OPENED
    if is_sign or (not commands and after.phase is state.phase):
        return after, commands  # Signs of life would push everything else out of the log.
    log = (*state.log, SourceEntry(after.phase, event, commands))[-LOG_ENTRIES_MAX:]
    return replace(after, log=log), commands


def notice_of(state: SourceState, post: Post, sums: tuple[int, ...] = ()) -> Written:
    """The notice that travels with a post."""
    epoch, rank, count = post.source_epoch, state.rank, len(post.sources)
    return Written(state.key, epoch, rank, post.first, count, sums, post.layer, post.layers)


# --- the rules ------------------------------------------------------------------------------------


def is_mine(state: SourceState, key: TicketKey) -> bool:
    """The epoch check: whether a message concerns this attempt."""
    return key == state.key


def computed_end(state: SourceState, layer: int) -> int:
    """Post only what is computed: the layer's first position that may not be posted yet."""
    return state.computed[layer] if state.computed else 0


def to_pin(post: Post) -> tuple[int, ...]:
    """Pin the source: the blocks to be held from before this post until it is done or failed."""
    return post.sources


def is_current(state: SourceState, event: Covered) -> bool:
    """Whether the blocks are still the request's: a preemption has not happened since."""
    return event.source_epoch == state.source_epoch


def is_drained(state: SourceState) -> bool:
    """The completion wait: whether no post is in flight."""
    return not state.flights


def is_over(event: WriteFailed | WriteDoubted) -> bool:
    """Doubt: whether nothing of a failed write can land any more. Else it stays in flight."""
    return isinstance(event, WriteFailed)


def is_expired(state: SourceState, now_s: float) -> bool:
    """Whether the write deadline has passed."""
    return state.deadline_s is not None and now_s >= state.deadline_s


# --- transitions ----------------------------------------------------------------------------------


def _begin(state: SourceState, event: Begun) -> _Step:
    return (state, ()) if state.begun else _sign(replace(state, begun=True), event.now_s)


def _sign(state: SourceState, now_s: float) -> _Step:
    """A sign of life, for as long as decode has not registered."""
    gap_s = state.signs.begun_gap_s if state.begun else state.signs.gap_s
    return replace(state, sign_s=now_s + gap_s), (Send(Alive(state.key, state.begun)),)


def _wait(state: SourceState, event: Tick) -> _Step:
    due = state.sign_s is None or event.now_s >= state.sign_s
    return _sign(state, event.now_s) if due else (state, ())


def _register(state: SourceState, event: TargetRegistered) -> _Step:
    register = event.register
    if not is_mine(state, register.key):
        return state, ()
    state = replace(
        state,
        phase=SourcePhase.STREAMING,
        register=register,
        asked=True,
        deadline_s=event.now_s + register.write_deadline_s,
        posted=(register.first,) * state.layers,
    )
    return _post(state, register, event.now_s)


def _register_late(state: SourceState, event: TargetRegistered) -> _Step:
    """The first registration after the end is answered; a repeated one was answered before."""
    if not is_mine(state, event.register.key) or state.register is not None:
        return state, ()
    posted = (event.register.first,) * state.layers
    return _owe_proof(replace(state, register=event.register, posted=posted))


def _withdraw(state: SourceState, event: Withdrawn) -> _Step:
    if not is_mine(state, event.withdraw.key):
        return state, ()
    return _end(replace(state, asked=True), "withdrawn")


def _withdraw_late(state: SourceState, event: Withdrawn) -> _Step:
    """Decode asks again when the proof was lost."""
    return _owe_proof(state) if is_mine(state, event.withdraw.key) else (state, ())


def _cover(state: SourceState, event: Covered) -> _Step:
    if not is_current(state, event):
        return state, ()
    before = state.computed or (0,) * state.layers
    computed = tuple(
        max(end, event.computed) if layer < event.layers else end
        for layer, end in enumerate(before)
    )
    if computed == state.computed:
        return state, ()
    blocks = max(event.blocks, state.blocks, key=len)
    state = replace(state, blocks=blocks, computed=computed)
    if state.register is None:
        return state, ()
    return _post(state, state.register, event.now_s)


def _preempt(state: SourceState, event: Preempted) -> _Step:
    if state.engine_done:
        raise IllegalTransitionError(f"{event} after the end\n{source_story(state)}")
    return replace(state, source_epoch=state.source_epoch + 1, blocks=(), computed=()), ()


def _prompt_done(state: SourceState, _event: PromptDone) -> _Step:
    return _settle(replace(state, engine_done=True))


def _drop(state: SourceState, event: Dropped) -> _Step:
    # Decode has not registered, but may be waiting for a sign of life.
    asked = state.asked or state.phase is SourcePhase.OPENED
    return _end(replace(state, engine_done=True, asked=asked), event.why)


def _write_done(state: SourceState, event: WriteDone) -> _Step:
    return _landed(state, event.post_id)


def _write_failed(state: SourceState, event: WriteFailed | WriteDoubted) -> _Step:
    if not _is_in_flight(state, event.post_id):
        return state, ()
    state = _spoil(state, event.why)
    return _landed(state, event.post_id) if is_over(event) else (state, ())


def _is_in_flight(state: SourceState, post_id: int) -> bool:
    return any(post.post_id == post_id for post in state.flights)


def _spoil(state: SourceState, why: str) -> SourceState:
    """Never post again, because a write failed. The first reason counts."""
    if state.reason is not None:
        return state
    return replace(state, phase=SourcePhase.DRAINING, reason=f"write failed: {why}")


def _peer_dead(state: SourceState, _event: PeerDead) -> _Step:
    return _end(replace(state, peer_dead=True), "decode died")


def _tick(state: SourceState, event: Tick) -> _Step:
    return _end(state, "write deadline passed") if is_expired(state, event.now_s) else (state, ())


def _ignore(state: SourceState, _event: SourceEvent) -> _Step:
    return state, ()


def _post(state: SourceState, register: Register, now_s: float) -> _Step:
    """Everything that may be posted now: one post for each run of layers that are equally far."""
    if is_expired(state, now_s):
        return _end(state, "write deadline passed")
    before_s = now_s if state.deadline_s is None else state.deadline_s
    commands: list[SourceCommand] = []
    for layer, layers, first, end in _runs(state, register):
        post = Post(
            state.posts,
            state.source_epoch,
            first,
            state.blocks[first:end],
            register.blocks[first - register.first : end - register.first],
            before_s,
            layer,
            layers,
        )
        posted = (*state.posted[:layer], *(end,) * layers, *state.posted[layer + layers :])
        flights = (*state.flights, post)
        state = replace(state, posts=state.posts + 1, posted=posted, flights=flights)
        commands += [Pin(to_pin(post)), post]
    if min(state.posted) == register.total:
        state = replace(state, phase=SourcePhase.DRAINING)
    return state, tuple(commands)


def _runs(state: SourceState, register: Register) -> list[tuple[int, int, int, int]]:
    """(first layer, layers, first position, end) of what is computed and not posted."""
    ends = [min(computed_end(state, layer), register.total) for layer in range(state.layers)]
    runs: list[tuple[int, int, int, int]] = []
    for layer, (first, end) in enumerate(zip(state.posted, ends, strict=True)):
        if end <= first:
            continue
        if runs and runs[-1][2:] == (first, end) and sum(runs[-1][:2]) == layer:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1, first, end)
        else:
            runs.append((layer, 1, first, end))
    return runs


def _landed(state: SourceState, post_id: int) -> _Step:
    done = tuple(Unpin(to_pin(post)) for post in state.flights if post.post_id == post_id)
    left = tuple(post for post in state.flights if post.post_id != post_id)
    state, commands = _settle(replace(state, flights=left))
    return state, (*done, *commands)


def _end(state: SourceState, reason: str) -> _Step:
    """Never post again. What has ended already keeps its reason."""
    if state.phase in (SourcePhase.OPENED, SourcePhase.STREAMING):
        state = replace(state, phase=SourcePhase.DRAINING, reason=reason)
    return _settle(state)


def _settle(state: SourceState) -> _Step:
    """Whatever the end of posting, of the posts in flight and of the request now allows."""
    commands: tuple[SourceCommand, ...] = ()
    if state.phase is SourcePhase.DRAINING and is_drained(state):
        state = replace(state, phase=SourcePhase.QUIET)
        commands = _proof(state)
    if state.phase is SourcePhase.QUIET and state.engine_done:
        return replace(state, phase=SourcePhase.CLOSED), (*commands, Release())
    return state, commands


def _owe_proof(state: SourceState) -> _Step:
    state = replace(state, asked=True)
    return state, () if state.phase is SourcePhase.DRAINING else _proof(state)


def _proof(state: SourceState) -> tuple[SourceCommand, ...]:
    if not state.asked or state.peer_dead:
        return ()
    return (Send(Closed(state.key, state.reason, state.rank)),)


_Row: TypeAlias = Mapping[type[SourceEvent], _Handler]

_ANYTIME: _Row = {
    Begun: _ignore,
    TargetRegistered: _register_late,
    Withdrawn: _withdraw_late,
    Covered: _ignore,
    PromptDone: _prompt_done,
    Dropped: _drop,
    WriteDone: _write_done,
    WriteFailed: _write_failed,
    WriteDoubted: _write_failed,
    PeerDead: _peer_dead,
    Tick: _ignore,
}
_POSTING: _Row = {
    **_ANYTIME,
    Withdrawn: _withdraw,
    Covered: _cover,
    Preempted: _preempt,
    Tick: _tick,
}
_ROWS: Mapping[SourcePhase, _Row] = {
    SourcePhase.OPENED: {**_POSTING, Begun: _begin, TargetRegistered: _register, Tick: _wait},
    SourcePhase.STREAMING: {**_POSTING, TargetRegistered: _ignore},
    SourcePhase.DRAINING: {**_ANYTIME, Preempted: _preempt},
    SourcePhase.QUIET: {**_ANYTIME, Preempted: _preempt},
    SourcePhase.CLOSED: {**_ANYTIME, PromptDone: _ignore, Dropped: _ignore},
}
TRANSITIONS: Mapping[tuple[SourcePhase, type[SourceEvent]], _Handler] = {
    (phase, kind): handler for phase, row in _ROWS.items() for kind, handler in row.items()
}
