"""The decode end: every phase meets every event, and it gives blocks up on proof alone."""

import pytest

from kv_transfer.ticket.messages import Alive, Closed, Register, TicketKey, Withdraw, Written
from kv_transfer.ticket.states import Checking, Patience, TargetPhase, TargetState
from kv_transfer.ticket.target import TRANSITIONS, step
from kv_transfer.ticket.words import (
    Aborted,
    Admit,
    Allocated,
    Freed,
    IllegalTransitionError,
    LoadFailed,
    NothingToLoad,
    Notice,
    PeerAlive,
    PeerClosed,
    PeerDead,
    Received,
    Send,
    Tick,
    Verified,
    Verify,
)
from tests.unit.kv_transfer.ticket.invariants import check_target as check_invariants

KEY, OTHER = TicketKey("t", 1), TicketKey("t", 0)
PATIENCE = Patience(silence_s=20.0, grace_s=1.0, gap_s=0.5, gap_max_s=2.0, asks_max=2)
ALLOCATED = Allocated(1, (11, 12, 13), 4, now_s=5.0, write_deadline_s=10.0)
REGISTER = Register(KEY, 1, (11, 12, 13), 4, 10.0)


def notice(first, count, rank=0, key=KEY, *, sums=True, layer=0, layers=1):
    kept = tuple(range(count)) if sums else ()
    return Notice(Written(key, 0, rank, first, count, kept, layer, layers))


def alive(begun, now_s=3.0, key=KEY):
    return PeerAlive(Alive(key, begun), now_s)


HALF, REST, ALL = notice(1, 1), notice(2, 2), notice(1, 3)
GOOD, BAD, GOOD_1 = Verified(0, True), Verified(0, False), Verified(1, True)
CLOSED, WELL = PeerClosed(Closed(KEY, "aborted")), PeerClosed(Closed(KEY, None))
DEAD, ABORTED, NOTHING = PeerDead(), Aborted(), NothingToLoad()
EARLY, EXPIRED = Tick(14.9), Tick(15.0)
WAITS, BEGUN, SILENCE = alive(False), alive(True), (Tick(0.0), Tick(20.0))
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
    "opened-admitted": (BEGUN,),
    "opened-silent": SILENCE,
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
    notice(1, 1, sums=False), WAITS, BEGUN, alive(True, key=OTHER),
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
        Send(REGISTER), Verify(0, 2, (12, 13), (0, 1)), Verify(1, 1, (11,), (0,)), Received()
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


def test_what_another_rank_wrote_is_not_here():
    state, done = run(ALLOCATED, ALL, rank=1)
    assert (state.landed, state.late, done) == (0, 1, [Send(REGISTER)])
    state, _ = step(state, notice(1, 3, rank=1))
    assert step(state, GOOD)[1] == (Received(),)


def test_the_proof_of_one_rank_is_not_that_of_another():
    state, done = run(ALLOCATED, ABORTED, CLOSED, rank=1)
    assert Freed() not in done
    assert step(state, PeerClosed(Closed(KEY, "aborted", rank=1)))[1] == (Freed(),)
    state, _ = run(CLOSED, rank=1)
    assert (state.reason, state.late) == (None, 1)


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
    assert done == ([Admit()] if "doomed" in path else [WITHDRAW])


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


# --- admission ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("doom", "reason", "told"),
    [
        ((DEAD,), "prefill died", []),
        ((CLOSED,), "prefill closed: aborted", [WITHDRAW]),
        (SILENCE, "prefill gives no sign of life", [WITHDRAW]),
        ((WAITS, *SILENCE, Tick(23.0)), "prefill gives no sign of life", [WITHDRAW]),
    ],
)
@pytest.mark.parametrize("late", [(), (WAITS, BEGUN), (CLOSED, DEAD, *SILENCE)])
def test_blocks_for_a_doomed_ticket_are_never_registered(doom, reason, told, late):
    dead = DEAD in (*doom, *late)
    _, done = run(*doom, *late, ALLOCATED)
    assert done == [Admit(), *([] if dead else told), LoadFailed(reason)]


def test_the_engine_may_spend_blocks_once_prefill_has_begun():
    state, done = run(WAITS, WAITS)
    assert done == []
    state, done = step(state, BEGUN)
    assert done == (Admit(),)
    for event in (BEGUN, WAITS, CLOSED, DEAD, Tick(1000.0)):
        state, done = step(state, event)
        assert done == ()


def test_signs_of_life_keep_the_target_waiting():
    signs = [event for t in range(0, 200, 15) for event in (alive(False, t), Tick(t + 14.9))]
    state, done = run(Tick(0.0), *signs)
    assert done == []
    assert step(state, Tick(215.1))[1] == (Admit(),)


def test_silence_counts_from_the_first_look_at_the_clock():
    assert run(Tick(1000.0), Tick(1019.9))[1] == []
    assert run(Tick(1000.0), Tick(1020.0))[1] == [Admit()]


def test_a_sign_of_another_attempt_means_nothing():
    state, done = run(Tick(0.0), alive(True, 19.0, OTHER))
    assert (done, state.late) == ([], 1)
    assert step(state, Tick(20.0))[1] == (Admit(),)


def test_a_prefill_that_still_asks_is_told_again():
    """The registration may be lost; a repeated one changes nothing there."""
    state, _ = run(*PATHS["registered"])
    assert step(state, BEGUN)[1] == (Send(state.register),)
    assert step(state, alive(True, 1.0, OTHER))[1] == ()


@pytest.mark.parametrize("path", ["streaming", "landed", "fencing", "closed"])
def test_signs_of_life_after_the_first_write_change_nothing(path):
    state, _ = run(*PATHS[path])
    assert step(state, BEGUN) == step(state, WAITS) == (state, ())
