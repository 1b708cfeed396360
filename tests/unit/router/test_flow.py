"""Every phase meets every event, and every life ends exactly once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baton.errors import Reason
from baton.ids import Leg, LegId, RequestId, WorkerId
from baton.messages import Dispatch
from router.flow import TRANSITIONS, IllegalTransitionError, check_invariants, step, story
from router.life import (
    ATTEMPTS_MAX,
    LOG_ENTRIES_MAX,
    AbortLeg,
    Broke,
    ClientLeft,
    Close,
    DeadlinePassed,
    Event,
    Fail,
    Finished,
    FlowState,
    Handoff,
    Held,
    LegEnded,
    Phase,
    PlaceAgain,
    Planned,
    Prefilled,
    SubmitLeg,
    TokensCame,
    Unplaced,
    WorkerLost,
)
from router.policy.types import ChoiceReason, Plan

R, P, D = RequestId("r"), WorkerId("prefill-0"), WorkerId("decode-0")
PREFILL, DECODE, SOLO = (LegId(R, 0, leg) for leg in (Leg.PREFILL, Leg.DECODE, Leg.SOLO))
WHY = {"cause": "test", "at_s": 1.0}


def plan(dispatch=Dispatch.SEQUENTIAL, prefill=P) -> Planned:
    return Planned(plan=Plan(prefill, D, dispatch, ChoiceReason.DISAGGREGATED), **WHY)


SEQUENTIAL, CONCURRENT, ALONE = plan(), plan(Dispatch.CONCURRENT), plan(prefill=None)
PREFILLED = Prefilled(leg_id=PREFILL, handed=b"kv", cached_tokens=3, **WHY)
TOKENS, FINISHED, STOPPED = TokensCame(**WHY), Finished(**WHY), Finished(engine_done=False, **WHY)
LEFT, LATE, BROKE = ClientLeft(**WHY), DeadlinePassed(**WHY), Broke(**WHY)
HELD, UNPLACED = Held(**WHY), Unplaced(reason=Reason.NO_WORKER, message="nobody", **WHY)


def lost(worker_id) -> WorkerLost:
    return WorkerLost(worker_id=worker_id, **WHY)


def ended(leg_id, reason=Reason.WORKER_FULL) -> LegEnded:
    return LegEnded(leg_id=leg_id, reason=reason, message="full", retry_after_s=2.0, **WHY)


def run(*events: Event) -> tuple[FlowState, list]:
    """The state after these events, and every command on the way."""
    state, done = FlowState(R), []
    for event in events:
        state, commands = step(state, event)
        check_invariants(state)
        done += commands
    return state, done


# Each way to be in a phase, by name: the events that lead there.
PATHS = {
    "new": (),
    "new-held": (HELD,),
    "new-again": (SEQUENTIAL, ended(PREFILL)),
    "prefilling": (SEQUENTIAL,),
    "paired": (CONCURRENT,),
    "decoding": (SEQUENTIAL, PREFILLED),
    "decoding-paired": (CONCURRENT, PREFILLED),
    "decoding-solo": (ALONE,),
    "streaming": (SEQUENTIAL, PREFILLED, TOKENS),
    "streaming-overtaken": (CONCURRENT, TOKENS),
    "streaming-solo": (ALONE, TOKENS),
    "closed": (ALONE, TOKENS, FINISHED),
    "closed-failed": (ALONE, LATE),
}
ANSWERS = {"decoding-solo": SOLO, "streaming-solo": SOLO}
EVENTS = {
    Planned: SEQUENTIAL,
    Prefilled: PREFILLED,
    TokensCame: TOKENS,
    Finished: FINISHED,
    LegEnded: ended(DECODE),
    WorkerLost: lost(D),
    DeadlinePassed: LATE,
    ClientLeft: LEFT,
    Broke: BROKE,
    Held: HELD,
    Unplaced: UNPLACED,
}
IMPOSSIBLE = {
    *(
        (phase, kind)
        for phase in Phase
        if phase not in (Phase.NEW, Phase.CLOSED)
        for kind in (Planned, Held, Unplaced)
    ),
    *((p, kind) for p in (Phase.NEW, Phase.PREFILLING) for kind in (TokensCame, Finished)),
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", EVENTS)
def test_every_phase_meets_every_event(path: str, kind: type[Event]) -> None:
    state, _ = run(*PATHS[path])
    assert path.startswith(state.phase.value)
    if (state.phase, kind) in IMPOSSIBLE:
        with pytest.raises(IllegalTransitionError, match="request r: "):
            step(state, EVENTS[kind])
        return
    after, commands = step(state, EVENTS[kind])
    check_invariants(after)
    assert not state.closed or (after, commands) == (state, ())


def test_the_table_holds_what_is_possible_and_nothing_else() -> None:
    possible = {(p, k) for p in Phase if p is not Phase.CLOSED for k in EVENTS} - IMPOSSIBLE
    assert set(TRANSITIONS) == possible


@pytest.mark.parametrize("path", [path for path in PATHS if not path.startswith("closed")])
@pytest.mark.parametrize(
    ("event", "last"),
    [
        (LEFT, Close(Reason.CANCELLED)),
        (LATE, Reason.DEADLINE_EXCEEDED),
        (BROKE, Reason.INTERNAL),
    ],
    ids=["left", "late", "broke"],
)
def test_an_end_in_any_phase_aborts_each_open_leg_once(path: str, event: Event, last) -> None:
    state, _ = run(*PATHS[path])
    after, commands = step(state, event)
    assert commands[:-1] == tuple(AbortLeg(leg.leg_id, leg.worker_id) for leg in state.legs)
    assert commands[-1] == last or commands[-1].reason is last
    assert step(after, event) == (after, ())


def test_sequential_dispatch_hands_over_what_prefill_reported() -> None:
    state, commands = run(SEQUENTIAL, PREFILLED, TOKENS, TOKENS, FINISHED)
    assert commands == [
        SubmitLeg(PREFILL, P, Handoff("r.0", 0)),
        SubmitLeg(DECODE, D, Handoff("r.0", 0, b"kv")),
        Close(),
    ]
    assert state.closed


def test_concurrent_dispatch_sends_both_legs_under_one_ticket() -> None:
    _, commands = run(CONCURRENT, PREFILLED, TOKENS, FINISHED)
    ticket = Handoff("r.0", 0)
    assert commands == [SubmitLeg(PREFILL, P, ticket), SubmitLeg(DECODE, D, ticket), Close()]


def test_alone_is_one_leg_without_ticket() -> None:
    assert run(ALONE, TOKENS, FINISHED)[1] == [SubmitLeg(SOLO, D), Close()]


def test_tokens_may_overtake_the_news_of_prefill() -> None:
    state, commands = run(CONCURRENT, TOKENS, PREFILLED)
    assert (state.phase, len(state.legs)) == (Phase.STREAMING, 1)
    assert run(CONCURRENT, TOKENS, FINISHED)[1][2:] == [AbortLeg(PREFILL, P), Close()]
    assert len(commands) == 2


def test_what_the_front_end_finished_is_aborted_in_the_engine() -> None:
    assert run(ALONE, TOKENS, STOPPED)[1][1:] == [AbortLeg(SOLO, D), Close()]


def test_a_fault_of_the_request_itself_ends_it_with_the_workers_reason() -> None:
    fail, wrong = Fail(Reason.PROMPT_TOO_LONG, "full", 2.0), Reason.PROMPT_TOO_LONG
    assert run(SEQUENTIAL, ended(PREFILL, wrong))[1][1:] == [fail]
    assert run(CONCURRENT, ended(PREFILL, wrong))[1][2:] == [AbortLeg(DECODE, D), fail]
    assert run(CONCURRENT, ended(DECODE, wrong))[1][2:] == [AbortLeg(PREFILL, P), fail]


ELSEWHERE = [
    Reason.WORKER_FULL,
    Reason.DRAINING,
    Reason.STARTING,
    Reason.WORKER_LOST,
    Reason.TRANSFER_FAILED,
    Reason.ENGINE_FAILED,
]


@pytest.mark.parametrize("reason", Reason)
def test_what_says_nothing_of_the_request_is_placed_again(reason: Reason) -> None:
    state, commands = run(CONCURRENT, ended(PREFILL, reason))
    assert commands[2] == AbortLeg(DECODE, D)
    if reason not in ELSEWHERE:
        assert commands[3:] == [Fail(reason, "full", 2.0)]
        return
    assert commands[3:] == [PlaceAgain(1, P, reason, "full", 2.0)]
    assert (state.phase, state.plan, state.attempt) == (Phase.NEW, None, 1)
    _, commands = step(state, CONCURRENT)
    assert [str(c.leg_id) for c in commands if isinstance(c, SubmitLeg)] == ["r.1.p", "r.1.d"]


def test_a_stream_goes_on_elsewhere_only_if_another_engine_can_go_on() -> None:
    state, commands = run(CONCURRENT, TOKENS, lost(D))
    assert (state.phase, type(commands[-1])) == (Phase.NEW, PlaceAgain)
    state = FlowState(R, resumable=False)
    for event in (CONCURRENT, TOKENS, lost(D)):
        state, commands = step(state, event)
    assert commands[-1] == Fail(Reason.WORKER_LOST, f"Worker {D} was lost.")


def test_nothing_is_tried_for_ever() -> None:
    state, done = FlowState(R), []
    for attempt in range(ATTEMPTS_MAX):
        for event in (SEQUENTIAL, ended(LegId(R, attempt, Leg.PREFILL))):
            state, commands = step(state, event)
            done += commands
    assert state.closed
    assert done[-1] == Fail(Reason.WORKER_FULL, "full", 2.0)


def test_what_nobody_can_serve_any_more_ends_with_the_reason() -> None:
    assert run(HELD, UNPLACED)[1] == [Fail(Reason.NO_WORKER, "nobody")]


def test_a_prefill_leg_that_ends_behind_its_tokens_does_not_matter() -> None:
    for event in (ended(PREFILL), lost(P)):
        state, commands = run(CONCURRENT, TOKENS, event)
        assert (state.phase, len(state.legs), len(commands)) == (Phase.STREAMING, 1, 2)


@pytest.mark.parametrize(
    ("path", "worker", "aborted"),
    [
        ("prefilling", P, []),
        ("prefilling", D, [AbortLeg(PREFILL, P)]),
        ("paired", P, [AbortLeg(DECODE, D)]),
        ("paired", D, [AbortLeg(PREFILL, P)]),
        ("decoding", D, []),
        ("streaming", D, []),
        ("streaming-overtaken", D, [AbortLeg(PREFILL, P)]),
        ("streaming-solo", D, []),
    ],
)
def test_a_needed_worker_that_is_lost_ends_the_attempt(path, worker, aborted) -> None:
    _, commands = step(run(*PATHS[path])[0], lost(worker))
    assert list(commands[:-1]) == aborted
    lost_it = f"Worker {worker} was lost."
    assert commands[-1] == PlaceAgain(1, worker, Reason.WORKER_LOST, lost_it)


@pytest.mark.parametrize("path", ["new", "decoding", "streaming"])
def test_prefill_may_be_lost_once_it_has_handed_over(path: str) -> None:
    state, _ = run(*PATHS[path])
    after, commands = step(state, lost(P))
    assert (after.phase, after.legs, commands) == (state.phase, state.legs, ())


@pytest.mark.parametrize("path", ["prefilling", "paired", "streaming"])
def test_news_of_another_attempt_is_ignored(path: str) -> None:
    state, _ = run(*PATHS[path])
    old = LegId(R, 7, Leg.PREFILL)
    for event in (Prefilled(leg_id=old, **WHY), ended(old)):
        after, commands = step(state, event)
        assert (after.phase, after.legs, commands) == (state.phase, state.legs, ())


def test_an_answering_leg_that_reports_its_prefill_stays_open() -> None:
    state, _ = run(ALONE, Prefilled(leg_id=SOLO, **WHY))
    assert state.legs[0].leg_id == SOLO


def test_the_log_is_bounded() -> None:
    state, _ = run(ALONE, *[lost(P)] * (2 * LOG_ENTRIES_MAX))
    assert len(state.log) == LOG_ENTRIES_MAX


def test_a_story_tells_events_causes_and_commands() -> None:
    assert story(run(SEQUENTIAL, PREFILLED, LEFT)[0]).splitlines() == [
        "request r: closed, attempt 0",
        "  +0.000 s Planned -> prefilling: test",
        "    submit r.0.p to prefill-0, handed 0 bytes",
        "  +0.000 s Prefilled -> decoding: test",
        "    submit r.0.d to decode-0, handed 2 bytes",
        "  +0.000 s ClientLeft -> closed: test",
        "    abort r.0.d on decode-0",
        "    close, cancelled",
    ]
    assert "fail with deadline_exceeded" in story(run(ALONE, LATE)[0])


def test_a_contradiction_is_found() -> None:
    state, _ = run(SEQUENTIAL)
    with pytest.raises(AssertionError):
        check_invariants(FlowState(R, Phase.PAIRED, plan=state.plan, legs=state.legs))


workers = st.sampled_from([P, D, WorkerId("other")])
legs = st.sampled_from([PREFILL, DECODE, SOLO, LegId(R, 1, Leg.DECODE), LegId(R, 1, Leg.PREFILL)])
any_event = st.one_of(
    st.sampled_from([SEQUENTIAL, CONCURRENT, ALONE, TOKENS, FINISHED, STOPPED, LEFT, LATE, BROKE]),
    st.sampled_from([HELD, UNPLACED]),
    st.builds(lost, workers),
    st.builds(ended, legs, st.sampled_from(Reason)),
    st.builds(lambda leg: Prefilled(leg_id=leg, **WHY), legs),
)


@given(st.sampled_from(sorted(PATHS)), st.lists(any_event, max_size=25))
def test_any_events_in_any_order_keep_the_promises(path: str, events: list[Event]) -> None:
    state, done = FlowState(R), []
    for event in (*PATHS[path], *events):
        try:
            state, commands = step(state, event)
        except IllegalTransitionError:
            assert (state.phase, type(event)) in IMPOSSIBLE
            continue
        check_invariants(state)
        done += commands
    state, commands = step(state, LEFT)
    done += commands
    submitted = [c.leg_id for c in done if isinstance(c, SubmitLeg)]
    aborted = [c.leg_id for c in done if isinstance(c, AbortLeg)]
    assert sum(isinstance(c, Fail | Close) for c in done) == 1
    assert isinstance(done[-1], Fail | Close)
    assert len(set(submitted)) == len(submitted)
    assert len(set(aborted)) == len(aborted)
    assert set(aborted) <= set(submitted)
