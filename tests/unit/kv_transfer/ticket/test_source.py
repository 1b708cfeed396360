"""The prefill end: every phase meets every event, and it closes once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kv_transfer.ticket.messages import Alive, Closed, Register, TicketKey, Withdraw, Written
from kv_transfer.ticket.source import TRANSITIONS, notice_of, step
from kv_transfer.ticket.states import LOG_ENTRIES_MAX, Signs, SourcePhase, SourceState
from kv_transfer.ticket.story import source_story as story
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
    TargetRegistered,
    Tick,
    Unpin,
    Withdrawn,
    WriteDone,
    WriteDoubted,
    WriteFailed,
)
from tests.unit.kv_transfer.ticket.invariants import check_source as check_invariants

KEY, OTHER = TicketKey("t", 1), TicketKey("t", 0)
REGISTER = TargetRegistered(Register(KEY, 1, (11, 12, 13), 4, 10.0), now_s=5.0)
STRANGE = TargetRegistered(Register(OTHER, 0, (1,), 1, 10.0), now_s=5.0)
HALF, ALL = (Covered(0, (20, 21, 22, 23), n, now_s=6.0) for n in (2, 4))
DONE, DROPPED, WITHDRAWN = PromptDone(), Dropped("aborted"), Withdrawn(Withdraw(KEY))
WRITE_0, WRITE_1, FAILED = WriteDone(0), WriteDone(1), WriteFailed(0, "cut")
PREEMPTED, DEAD, EARLY, LATE = Preempted(), PeerDead(), Tick(14.9), Tick(15.0)
POST_0 = Post(0, 0, 1, (21,), (11,), 15.0)
POST_1 = Post(1, 0, 2, (22, 23), (12, 13), 15.0)
BEGUN, DOUBTED = Begun(4.0), WriteDoubted(0, "lost")
GOOD, SIGN, BEGINS = Send(Closed(KEY, None)), Send(Alive(KEY, False)), Send(Alive(KEY, True))


def run(*events, **fields):
    """The state after these events, and every command on the way."""
    state, done = SourceState(KEY, **fields), []
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
    "opened-begun": (BEGUN,),
    "opened-done": (BEGUN, ALL, DONE),
    "streaming": (REGISTER,),
    "streaming-posted": (REGISTER, HALF),
    "streaming-done": (REGISTER, HALF, DONE),
    "draining": (REGISTER, ALL),
    "draining-withdrawn": (REGISTER, HALF, WITHDRAWN),
    "draining-dropped": (REGISTER, HALF, DROPPED),
    "draining-dead": (REGISTER, HALF, DEAD),
    "draining-doubted": (REGISTER, HALF, DOUBTED),
    "draining-doubted-done": (REGISTER, ALL, DOUBTED, DONE),
    "quiet": (REGISTER, ALL, WRITE_0),
    "quiet-withdrawn": (WITHDRAWN,),
    "closed": (REGISTER, ALL, WRITE_0, DONE),
    "closed-dropped": (DROPPED,),
}
EVENTS = [
    REGISTER, STRANGE, HALF, ALL, DONE, DROPPED, WITHDRAWN, Withdrawn(Withdraw(OTHER)), WRITE_0,
    WRITE_1, FAILED, DOUBTED, BEGUN, PREEMPTED, DEAD, EARLY, LATE,
    Covered(1, (30, 31, 32, 33), 4, 7.0),
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
    assert done == [closed("aborted"), Release(), closed("aborted")]


def test_who_waits_for_a_sign_hears_of_the_end_and_the_dead_do_not():
    assert run(BEGUN, DROPPED)[1] == [BEGINS, closed("aborted"), Release()]
    assert run(BEGUN, DEAD, DROPPED)[1] == [BEGINS, Release()]


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


# --- signs of life --------------------------------------------------------------------------------


def test_signs_of_life_come_until_decode_registers_and_more_often_once_it_has_begun():
    ticks = [Tick(t / 10) for t in range(40)]
    signs = Signs(gap_s=1.0, begun_gap_s=0.5)
    assert run(*ticks, signs=signs)[1] == [SIGN] * 4
    begun = [Tick(4 + t / 10) for t in range(1, 11)]
    state, done = run(*ticks, BEGUN, BEGUN, *begun, signs=signs)
    assert done[4:] == [BEGINS] * 3
    state, _ = step(state, REGISTER)
    assert step(state, Tick(9.0)) == (state, ())


@pytest.mark.parametrize("end", [WITHDRAWN, DROPPED, DEAD])
def test_what_has_ended_gives_no_sign(end):
    state, _ = run(BEGUN, end)
    for event in (Tick(100.0), BEGUN):
        assert step(state, event) == (state, ())


def test_a_finished_prompt_still_waits_for_its_target():
    _, done = run(BEGUN, ALL, DONE, Tick(6.0), Tick(8.0))
    assert done == [BEGINS] * 3


# --- layers ---------------------------------------------------------------------------------------


def covered(computed, layers, epoch=0):
    return Covered(epoch, (20, 21, 22, 23), computed, 6.0, layers)


def shapes(done):
    """(layer, layers, first position, positions) of each post."""
    posts = [c for c in done if isinstance(c, Post)]
    return [(p.layer, p.layers, p.first, len(p.sources)) for p in posts]


def test_each_layer_leaves_when_it_is_computed():
    events = [covered(4, layers) for layers in (1, 2, 3)]
    state, done = run(REGISTER, *events, layers=3)
    assert shapes(done) == [(0, 1, 1, 3), (1, 1, 1, 3), (2, 1, 1, 3)]
    assert state.phase is SourcePhase.DRAINING


def test_layers_that_are_equally_far_leave_together():
    _, done = run(REGISTER, covered(2, 1), covered(2, 3), covered(4, 2), covered(4, 3), layers=3)
    assert shapes(done) == [(0, 1, 1, 1), (1, 2, 1, 1), (0, 2, 2, 2), (2, 1, 2, 2)]


def test_layers_that_are_not_equally_far_leave_apart():
    late = TargetRegistered(REGISTER.register, now_s=6.5)
    _, done = run(covered(2, 3), covered(4, 1), late, layers=3)
    assert shapes(done) == [(0, 1, 1, 3), (1, 2, 1, 1)]


def test_late_news_of_an_earlier_step_or_layer_takes_nothing_back():
    state, done = run(REGISTER, covered(4, 2), covered(2, 3), covered(4, 1), layers=3)
    assert state.computed == (4, 4, 2)
    assert shapes(done) == [(0, 2, 1, 3), (2, 1, 1, 1)]
    pins = [c.blocks for c in done if isinstance(c, Pin)]
    assert pins == [(21, 22, 23), (21,)]


def test_preemption_posts_only_the_layers_that_were_never_posted():
    again = Covered(1, (30, 31, 32, 33), 4, 7.0, 2)
    state, done = run(REGISTER, covered(4, 1), PREEMPTED, covered(4, 2), again, layers=2)
    assert done[-2:] == [
        Pin((31, 32, 33)), Post(1, 1, 1, (31, 32, 33), (11, 12, 13), 15.0, 1, 1)
    ]  # fmt: skip
    assert state.phase is SourcePhase.DRAINING


def test_the_notice_names_the_layers():
    state, done = run(REGISTER, covered(2, 1), covered(2, 3), layers=3)
    assert notice_of(state, done[-1], (7,)) == Written(KEY, 0, 0, 1, 1, (7,), layer=1, layers=2)


# --- doubt ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [WRITE_0, FAILED])
def test_a_doubted_write_stays_in_flight_until_it_is_over(end):
    state, done = run(REGISTER, HALF, DOUBTED, ALL, DONE, DROPPED, WITHDRAWN, LATE)
    assert [type(c) for c in done] == [Pin, Post]
    assert state.reason == "write failed: lost"
    state, done = step(state, end)
    assert done == (Unpin((21,)), closed("write failed: lost"), Release())


def test_a_doubted_write_ends_with_its_peer_and_without_a_word():
    state, done = run(REGISTER, HALF, DOUBTED, DONE, DEAD)
    assert not any(isinstance(c, Send | Release) for c in done)
    assert step(state, FAILED)[1] == (Unpin((21,)), Release())


def test_doubt_about_the_last_write_spoils_what_is_all_posted():
    state, done = run(REGISTER, HALF, ALL, DOUBTED, WRITE_1)
    assert state.phase is SourcePhase.DRAINING
    assert done[-1] == Unpin((22, 23))
    assert step(state, WRITE_0)[1][-1] == closed("write failed: lost")


def test_doubt_about_what_is_not_in_flight_changes_nothing():
    for path in (HALF,), (REGISTER, HALF, WRITE_0), (REGISTER, ALL, WRITE_0, DONE):
        state, _ = run(*path)
        assert step(state, DOUBTED) == (state, ())


@pytest.mark.parametrize("path", PATHS)
def test_what_concerns_another_attempt_changes_nothing(path):
    state, _ = run(*PATHS[path])
    for event in (STRANGE, Withdrawn(Withdraw(OTHER))):
        assert step(state, event) == (state, ())


LAYERED = [covered(n, k, epoch) for n in (2, 3, 4) for k in (1, 2, 3) for epoch in (0, 1)]


@given(st.lists(st.sampled_from(EVENTS + LAYERED), max_size=40), st.integers(1, 3))
def test_any_order_releases_at_most_once_and_posts_nothing_twice(events, layers):
    state, done = SourceState(KEY, layers), []
    for event in events:
        try:
            state, commands = step(state, event)
        except IllegalTransitionError:
            continue
        check_invariants(state)
        done += commands
    posts = [c for c in done if isinstance(c, Post)]
    pieces = [
        (p.first + i, p.layer + k) for p in posts for i in range(len(p.sources))
        for k in range(p.layers)
    ]  # fmt: skip
    assert len(pieces) == len(set(pieces))
    assert all(layer < layers for _, layer in pieces)
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
