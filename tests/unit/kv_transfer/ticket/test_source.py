"""The prefill end: every phase meets every event, and it closes once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kv_transfer.ticket.source import TRANSITIONS, check_invariants, notice_of, step, story
from kv_transfer.ticket.states import LOG_ENTRIES_MAX, SourcePhase, SourceState
from kv_transfer.ticket.words import (
    Closed,
    Covered,
    Dropped,
    IllegalTransitionError,
    PeerDead,
    Pin,
    Post,
    Preempted,
    PromptDone,
    Register,
    Release,
    Send,
    TargetRegistered,
    Tick,
    TicketKey,
    Unpin,
    Withdraw,
    Withdrawn,
    WriteDone,
    WriteFailed,
    Written,
)

KEY, OTHER = TicketKey("t", 1), TicketKey("t", 0)
REGISTER = TargetRegistered(Register(KEY, 1, (11, 12, 13), 4, 10.0), now_s=5.0)
STRANGE = TargetRegistered(Register(OTHER, 0, (1,), 1, 10.0), now_s=5.0)
HALF, ALL = (Covered(0, (20, 21, 22, 23), n, now_s=6.0) for n in (2, 4))
DONE, DROPPED, WITHDRAWN = PromptDone(), Dropped("aborted"), Withdrawn(Withdraw(KEY))
WRITE_0, WRITE_1, FAILED = WriteDone(0), WriteDone(1), WriteFailed(0, "cut")
PREEMPTED, DEAD, EARLY, LATE = Preempted(), PeerDead(), Tick(14.9), Tick(15.0)
POST_0 = Post(0, 0, 1, (21,), (11,), 15.0)
POST_1 = Post(1, 0, 2, (22, 23), (12, 13), 15.0)
GOOD = Send(Closed(KEY, None))


def run(*events):
    """The state after these events, and every command on the way."""
    state, done = SourceState(KEY), []
    for event in events:
        state, commands = step(state, event)
        check_invariants(state)
        done += commands
    return state, done


def closed(why):
    return Send(Closed(KEY, why))


# Each way to be in a phase: the events that lead there.
PATHS = {
    "opened": (),
    "opened-covered": (HALF,),
    "opened-done": (ALL, DONE),
    "streaming": (REGISTER,),
    "streaming-posted": (REGISTER, HALF),
    "streaming-done": (REGISTER, HALF, DONE),
    "draining": (REGISTER, ALL),
    "draining-withdrawn": (REGISTER, HALF, WITHDRAWN),
    "draining-dropped": (REGISTER, HALF, DROPPED),
    "draining-dead": (REGISTER, HALF, DEAD),
    "quiet": (REGISTER, ALL, WRITE_0),
    "quiet-withdrawn": (WITHDRAWN,),
    "closed": (REGISTER, ALL, WRITE_0, DONE),
    "closed-dropped": (DROPPED,),
}
EVENTS = [
    REGISTER, STRANGE, HALF, ALL, DONE, DROPPED, WITHDRAWN, Withdrawn(Withdraw(OTHER)), WRITE_0,
    WRITE_1, FAILED, PREEMPTED, DEAD, EARLY, LATE, Covered(1, (30, 31, 32, 33), 4, 7.0),
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("event", EVENTS, ids=str)
def test_every_phase_meets_every_event(path, event):
    state, _ = run(*PATHS[path])
    assert state.phase == path.split("-")[0]
    if event is PREEMPTED and state.engine_done:
        with pytest.raises(IllegalTransitionError, match="source of t epoch 1"):
            step(state, event)
        return
    after, commands = step(state, event)
    check_invariants(after)
    in_flight = {c.post_id for c in commands if isinstance(c, Post)}
    assert not in_flight or state.phase in (SourcePhase.OPENED, SourcePhase.STREAMING)


def test_a_good_life():
    state, done = run(HALF, REGISTER, ALL, WRITE_1, DONE, WRITE_0)
    assert done == [
        Pin((21,)), POST_0, Pin((22, 23)), POST_1, Unpin((22, 23)), Unpin((21,)), GOOD, Release()
    ]  # fmt: skip
    assert state.closed


def test_positions_that_decode_holds_are_never_written():
    _, done = run(REGISTER, ALL)
    assert [c for c in done if isinstance(c, Post)] == [
        Post(0, 0, 1, (21, 22, 23), (11, 12, 13), 15.0)
    ]


def test_the_notice_names_what_the_post_covers():
    state, _ = run(REGISTER, HALF)
    assert notice_of(state, POST_0, (7,)) == Written(KEY, 0, 0, 1, 1, (7,))


def test_only_computed_positions_are_posted():
    _, done = run(REGISTER, Covered(0, (20, 21, 22, 23), 1, 6.0))
    assert done == []


def test_preemption_posts_only_what_was_never_posted():
    again = Covered(1, (30, 31, 32, 33), 4, 7.0)
    state, done = run(REGISTER, HALF, PREEMPTED, ALL, again)
    assert state.source_epoch == 1
    assert done == [
        Pin((21,)), POST_0, Pin((32, 33)), Post(1, 1, 2, (32, 33), (12, 13), 15.0)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        (WITHDRAWN, "withdrawn"),
        (DROPPED, "aborted"),
        (LATE, "write deadline passed"),
        (FAILED, "write failed: cut"),
        (Covered(0, (20, 21, 22, 23), 4, 15.0), "write deadline passed"),
    ],
)
def test_nothing_is_posted_after_the_end_and_the_proof_waits_for_writes(last, reason):
    state, done = run(REGISTER, HALF, last, ALL)
    assert sum(isinstance(c, Post) for c in done) == 1
    if last is not FAILED:
        assert closed(reason) not in done
        state, more = step(state, WRITE_0)
        done += more
    assert done.count(closed(reason)) == 1
    state, _ = step(state, DONE)
    assert state.closed


def test_a_dead_peer_gets_no_proof_and_pins_wait_for_the_handle():
    state, done = run(REGISTER, HALF, DEAD, DONE)
    assert not state.closed
    state, more = step(state, FAILED)
    assert (state.closed, more) == (True, (Unpin((21,)), Release()))
    assert not any(isinstance(c, Send) for c in [*done, *more])


@pytest.mark.parametrize("end", [(DROPPED,), (PREEMPTED, DROPPED), (ALL, DONE, DROPPED)])
def test_a_registration_after_the_end_is_answered_once(end):
    _, done = run(*end, REGISTER, REGISTER)
    assert done == [Release(), closed("aborted")]


def test_a_withdrawal_may_overtake_its_registration():
    state, done = run(WITHDRAWN, REGISTER, ALL)
    assert done == [closed("withdrawn"), closed("withdrawn")]
    assert state.phase is SourcePhase.QUIET
    assert step(state, DONE)[1] == (Release(),)


def test_a_lost_proof_is_given_again():
    state, done = run(REGISTER, ALL, WRITE_0, WITHDRAWN, DONE, WITHDRAWN)
    assert done.count(GOOD) == 3
    assert done.count(Release()) == 1
    assert state.closed


@pytest.mark.parametrize("path", PATHS)
def test_what_concerns_another_attempt_changes_nothing(path):
    state, _ = run(*PATHS[path])
    for event in (STRANGE, Withdrawn(Withdraw(OTHER))):
        assert step(state, event) == (state, ())


@given(st.lists(st.sampled_from(EVENTS), max_size=40))
def test_any_order_releases_at_most_once_and_posts_nothing_twice(events):
    state, done = SourceState(KEY), []
    for event in events:
        try:
            state, commands = step(state, event)
        except IllegalTransitionError:
            continue
        check_invariants(state)
        done += commands
    positions = [c.first + i for c in done if isinstance(c, Post) for i in range(len(c.sources))]
    assert len(positions) == len(set(positions))
    assert done.count(Release()) == int(state.closed)
    pinned = [b for c in done if isinstance(c, Pin) for b in c.blocks]
    unpinned = [b for c in done if isinstance(c, Unpin) for b in c.blocks]
    in_flight = [b for post in state.flights for b in post.sources]
    assert sorted(pinned) == sorted(unpinned + in_flight)
    assert len(state.log) <= LOG_ENTRIES_MAX


def test_the_story_tells_events_and_commands():
    told = story(run(REGISTER, HALF, WITHDRAWN)[0])
    assert told.startswith("source of t epoch 1, rank 0: draining, withdrawn")
    assert "TargetRegistered" in told
    assert "Pin(blocks=(21,))" in told


def test_each_phase_has_a_row():
    assert {phase for phase, _ in TRANSITIONS} == set(SourcePhase)
