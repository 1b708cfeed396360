"""The decode end: every phase meets every event, and it gives blocks up on proof alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kv_transfer.ticket.states import Checking, Patience, TargetPhase, TargetState
from kv_transfer.ticket.target import TRANSITIONS, check_invariants, step, story
from kv_transfer.ticket.words import (
    Aborted,
    Allocated,
    AskKill,
    Closed,
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
    Tick,
    TicketKey,
    Unquarantine,
    Verified,
    Verify,
    Withdraw,
    Written,
)

KEY, OTHER = TicketKey("t", 1), TicketKey("t", 0)
PATIENCE = Patience(grace_s=1.0, gap_s=0.5, gap_max_s=2.0, asks_max=2)
ALLOCATED = Allocated(1, (11, 12, 13), 4, now_s=5.0, write_deadline_s=10.0)
REGISTER = Register(KEY, 1, (11, 12, 13), 4, 10.0)


def notice(first, count, rank=0, key=KEY, sums=True):
    return Notice(Written(key, 0, rank, first, count, tuple(range(count)) if sums else ()))


HALF, REST, ALL = notice(1, 1), notice(2, 2), notice(1, 3)
GOOD, BAD, GOOD_1 = Verified(0, True), Verified(0, False), Verified(1, True)
CLOSED, WELL = PeerClosed(Closed(KEY, "aborted")), PeerClosed(Closed(KEY, None))
DEAD, ABORTED, NOTHING = PeerDead(), Aborted(), NothingToLoad()
EARLY, EXPIRED = Tick(14.9), Tick(15.0)
WITHDRAW = Send(Withdraw(KEY))
ENDS = (Received, LoadFailed, Freed)
PROOFS = {"closed": (CLOSED,), "well": (WELL,), "dead": (DEAD,), "full": (HALF, REST)}


def run(*events, **fields):
    """The state after these events, and every command on the way."""
    state, done = TargetState(KEY, patience=PATIENCE, **fields), []
    for event in events:
        state, commands = step(state, event)
        check_invariants(state)
        done += commands
    return state, done


QUARANTINED = (ALLOCATED, EXPIRED, Tick(15.1), Tick(16.0), Tick(17.0))
PATHS = {
    "opened": (),
    "opened-doomed": (DEAD,),
    "opened-refused": (CLOSED,),
    "registered": (ALLOCATED,),
    "streaming": (ALLOCATED, HALF),
    "streaming-verified": (ALLOCATED, HALF, GOOD),
    "landed": (ALLOCATED, ALL),
    "fencing": (ALLOCATED, ABORTED),
    "fencing-expired": (ALLOCATED, HALF, EXPIRED),
    "fencing-bad": (ALLOCATED, HALF, BAD),
    "quarantined": QUARANTINED,
    "quarantined-aborted": (*QUARANTINED, ABORTED),
    "closed": (ALLOCATED, ALL, GOOD),
    "closed-failed": (ALLOCATED, CLOSED),
    "closed-nothing": (NOTHING,),
}
EVENTS = [
    ALLOCATED, HALF, REST, ALL, GOOD, BAD, GOOD_1, CLOSED, WELL, DEAD, ABORTED, NOTHING, EARLY,
    EXPIRED, Tick(100.0), notice(0, 1), notice(3, 2), notice(1, 1, rank=1), notice(1, 3, key=OTHER),
    PeerClosed(Closed(OTHER, None)), PeerClosed(Closed(KEY, None, rank=1)),
    notice(1, 1, sums=False),
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("event", EVENTS, ids=str)
def test_every_phase_meets_every_event(path, event):
    state, _ = run(*PATHS[path])
    assert state.phase == path.split("-")[0]
    if (state.phase, type(event)) not in TRANSITIONS:
        assert isinstance(event, Allocated | NothingToLoad | Verified)
        with pytest.raises(IllegalTransitionError, match="target of t epoch 1"):
            step(state, event)
        return
    after, commands = step(state, event)
    check_invariants(after)
    assert not state.closed or commands == ()


def test_a_good_life():
    state, done = run(ALLOCATED, REST, HALF, GOOD, GOOD_1)
    assert done == [
        Send(REGISTER), Verify(0, 0, 2, (12, 13), (0, 1)), Verify(1, 0, 1, (11,), (0,)), Received()
    ]  # fmt: skip
    assert state.closed


def test_without_checking_a_full_bitmap_suffices():
    _, done = run(ALLOCATED, HALF, REST, checking=Checking.OFF)
    assert done == [Send(REGISTER), Received()]


def test_sampled_checking_compares_what_comes():
    state, _ = run(ALLOCATED, notice(1, 2, sums=False), notice(3, 1), checking=Checking.SAMPLED)
    assert state.phase is TargetPhase.LANDED
    assert step(state, GOOD)[1] == (Received(),)


def test_full_checking_insists_on_checksums():
    state, done = run(ALLOCATED, notice(1, 1, sums=False))
    assert done[1:] == [WITHDRAW]
    assert state.phase is TargetPhase.FENCING


def test_every_rank_has_to_be_full():
    both = (ALLOCATED, ALL, GOOD)
    state, done = run(*both, ranks=2)
    assert not any(isinstance(c, ENDS) for c in done)
    state, _ = step(state, notice(1, 3, rank=1))
    assert step(state, GOOD_1)[1] == (Received(),)


def test_the_proof_of_one_rank_is_not_that_of_another():
    state, done = run(ALLOCATED, ABORTED, CLOSED, ranks=2)
    assert Freed() not in done
    assert step(state, PeerClosed(Closed(KEY, "aborted", rank=1)))[1] == (Freed(),)


@pytest.mark.parametrize("proof", PROOFS)
@pytest.mark.parametrize("path", ["registered", "streaming", "fencing", "quarantined"])
def test_an_abort_frees_blocks_on_proof_alone(path, proof):
    state, done = run(*PATHS[path], ABORTED, Tick(14.0), Tick(15.0), Tick(1000.0))
    assert not any(isinstance(c, ENDS) for c in done)
    for event in PROOFS[proof]:
        state, commands = step(state, event)
        check_invariants(state)
        done += commands
    assert done[-1] == Freed()
    assert done.count(Freed()) == 1
    assert state.closed


def test_an_abort_after_landing_needs_no_further_proof():
    assert run(*PATHS["landed"], ABORTED)[1][-1] == Freed()


@pytest.mark.parametrize("path", ["opened", "opened-doomed"])
def test_an_abort_before_registration_reports_nothing(path):
    state, done = run(*PATHS[path], ABORTED)
    assert state.closed
    assert done == ([] if "doomed" in path else [WITHDRAW])


def test_an_abort_after_the_end_changes_nothing():
    state, _ = run(*PATHS["closed"])
    assert step(state, ABORTED) == (state, ())


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        (CLOSED, "prefill closed: aborted"),
        (WELL, "prefill closed: before every position had come"),
        (DEAD, "prefill died"),
    ],
)
def test_a_proof_ends_a_load_that_is_not_complete(last, reason):
    assert run(ALLOCATED, HALF, last)[1][-1] == LoadFailed(reason)


def test_a_failed_check_never_starts_the_request():
    assert run(ALLOCATED, ALL, BAD)[1][-1] == LoadFailed("checksums differ")
    _, done = run(ALLOCATED, HALF, BAD, REST, GOOD_1)
    assert done[-1] == LoadFailed("checksums differ")
    assert Received() not in done


@pytest.mark.parametrize("doom", [DEAD, CLOSED])
def test_blocks_for_a_doomed_ticket_are_never_registered(doom):
    _, done = run(doom, ALLOCATED)
    assert [type(c) for c in done] == [LoadFailed]


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


@given(st.lists(st.sampled_from(EVENTS), max_size=40), st.sampled_from(Checking))
def test_any_order_reports_at_most_once_and_only_on_proof(events, checking):
    state, done = TargetState(KEY, checking=checking, patience=PATIENCE), []
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
    full = state.landed == (0b111,)
    proven = full or any(e in (CLOSED, WELL, DEAD) for e in seen)
    assert not ends or proven
    assert Received() not in ends or full


def test_the_story_tells_events_and_commands():
    told = story(run(ALLOCATED, HALF, ABORTED)[0])
    assert told.startswith("target of t epoch 1: fencing, aborted, 0 late")
    assert "Verify(" in told
    assert "Withdraw(" in told


def test_each_phase_has_a_row():
    assert {phase for phase, _ in TRANSITIONS} == set(TargetPhase)
