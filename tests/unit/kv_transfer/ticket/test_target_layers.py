"""The decode end: layers, and what else its ends depend on."""

from hypothesis import given
from hypothesis import strategies as st

from kv_transfer.ticket.messages import Register
from kv_transfer.ticket.states import Checking, TargetPhase, TargetState
from kv_transfer.ticket.story import target_story as story
from kv_transfer.ticket.target import TRANSITIONS, step
from kv_transfer.ticket.words import (
    Admit,
    Allocated,
    AskKill,
    Freed,
    IllegalTransitionError,
    LoadFailed,
    Quarantine,
    Received,
    Send,
    Tick,
    Unquarantine,
    Verify,
)
from tests.unit.kv_transfer.ticket.invariants import check_target as check_invariants
from tests.unit.kv_transfer.ticket.test_target import (
    ABORTED,
    ALL,
    ALLOCATED,
    CLOSED,
    DEAD,
    ENDS,
    EVENTS,
    HALF,
    KEY,
    OTHER,
    PATIENCE,
    WELL,
    WITHDRAW,
    notice,
    run,
)


def test_every_layer_of_every_position_has_to_come():
    first, second = notice(1, 3, layers=2), notice(1, 2, layer=2)
    state, _ = run(ALLOCATED, second, first, checking=Checking.OFF, layers=3)
    assert state.phase is TargetPhase.STREAMING
    assert state.landed == 0b011_111_111
    assert step(state, notice(3, 1, layer=2))[1] == (Received(),)


def test_checks_name_their_layers():
    _, done = run(ALLOCATED, notice(2, 2, layer=1, layers=2), layers=3)
    assert done[1:] == [Verify(0, 2, (12, 13), (0, 1), 1, 2)]


def test_layers_that_came_or_do_not_exist_are_late():
    strange = [notice(1, 3), notice(3, 1, layers=2), notice(1, 1, layer=2), notice(1, 1, layers=3)]
    state, done = run(ALLOCATED, notice(1, 3), *strange, layers=2)
    assert state.late == len(strange)
    assert len(done) == 2


def test_a_fence_that_rests_on_arrival_needs_all_layers():
    state, done = run(ALLOCATED, ABORTED, notice(1, 3), layers=2)
    assert Freed() not in done
    assert step(state, notice(1, 3, layer=1))[1] == (Freed(),)


def test_late_notices_are_counted_and_ignored():
    strange = [
        HALF, ALL, notice(0, 1), notice(3, 2), notice(2, 1, rank=1), notice(2, 2, key=OTHER)
    ]  # fmt: skip
    state, done = run(ALLOCATED, HALF, *strange)
    assert state.late == len(strange)
    assert len(done) == 2


def test_time_presses_for_the_proof_and_gives_nothing_up():
    ticks = [Tick(t / 4) for t in range(20, 400)]
    state, done = run(ALLOCATED, *ticks)
    asks = [c for c in done if isinstance(c, AskKill)]
    assert done.count(Quarantine((11, 12, 13))) == 1
    assert 2 < len(asks) < 50
    assert not any(isinstance(c, ENDS) for c in done)
    assert step(state, DEAD)[1] == (Unquarantine((11, 12, 13)), LoadFailed("write deadline passed"))


def test_nobody_is_killed_before_the_deadline_and_its_grace():
    ticks = [Tick(5 + t / 4) for t in range(44)]
    _, done = run(ALLOCATED, ABORTED, *ticks)
    assert not any(isinstance(c, AskKill) for c in done)
    assert 4 < done.count(WITHDRAW) < 12
    assert AskKill("aborted") in run(ALLOCATED, ABORTED, *ticks, Tick(16.0))[1]


LAYERED = [notice(f, n, layer=k) for f, n in ((1, 1), (2, 2), (1, 3)) for k in (1, 2)]


@given(
    st.lists(st.sampled_from(EVENTS + LAYERED), max_size=40),
    st.sampled_from(Checking),
    st.integers(1, 3),
)
def test_any_order_reports_at_most_once_and_only_on_proof(events, checking, layers):
    state, done = TargetState(KEY, layers, checking=checking, patience=PATIENCE), []
    seen = []
    for event in events:
        try:
            state, commands = step(state, event)
        except IllegalTransitionError:
            continue
        check_invariants(state)
        seen.append(event)
        done += commands
    ends = [c for c in done if isinstance(c, ENDS)]
    assert len(ends) == int(state.closed and Allocated in map(type, seen))
    full = state.landed == ((1 << 3 * layers) - 1,)
    registered = any(isinstance(c, Send) and isinstance(c.message, Register) for c in done)
    proven = full or not registered or any(e in (CLOSED, WELL, DEAD) for e in seen)
    assert not ends or proven
    assert Received() not in ends or full
    assert done.count(Admit()) == int(state.admitted)
    assert not state.admitted or seen[0] is not ALLOCATED


def test_the_story_tells_events_and_commands():
    told = story(run(ALLOCATED, HALF, ABORTED)[0])
    assert told.startswith("target of t epoch 1, rank 0: fencing, aborted, 0 late")
    assert "Verify(" in told
    assert "Withdraw(" in told


def test_each_phase_has_a_row():
    assert {phase for phase, _ in TRANSITIONS} == set(TargetPhase)
