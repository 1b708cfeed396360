"""The parts of a first token's time add up, whatever the clocks say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baton.errors import Reason
from baton.ids import Leg, LegId, RequestId, WorkerId
from baton.messages import Dispatch, LegTimes
from router.flow import step
from router.life import FlowState, LegEnded, Planned, Prefilled, TokensCame, WorkerLost
from router.policy.types import ChoiceReason, Plan
from router.split import Part, Split, TokenPart, split_tokens, stitch

R, P, D = RequestId("r"), WorkerId("p"), WorkerId("d")


class Log:
    """A request's life, written by the flow itself."""

    def __init__(self) -> None:
        self.state = FlowState(R)

    def planned(self, at: float, dispatch: Dispatch | None = Dispatch.CONCURRENT) -> Log:
        prefill = None if dispatch is None else P
        plan = Plan(prefill, D, dispatch or Dispatch.SEQUENTIAL, ChoiceReason.DISAGGREGATED)
        return self._feed(Planned(cause="", at_s=at, plan=plan))

    def prefilled(self, at: float, times: LegTimes, attempt: int | None = None) -> Log:
        attempt = self.state.attempt if attempt is None else attempt
        leg_id = LegId(R, attempt, Leg.PREFILL)
        return self._feed(Prefilled(cause="", at_s=at, leg_id=leg_id, times=times))

    def came(self, at: float, times: LegTimes) -> Log:
        return self._feed(TokensCame(cause="", at_s=at, times=times))

    def lost(self, at: float) -> Log:
        return self._feed(WorkerLost(cause="", at_s=at, worker_id=D))

    def full(self, at: float) -> Log:
        leg_id = LegId(R, self.state.attempt, Leg.PREFILL)
        reason = Reason.WORKER_FULL
        return self._feed(LegEnded(cause="", at_s=at, leg_id=leg_id, reason=reason, message=""))

    def _feed(self, event) -> Log:
        self.state, _ = step(self.state, event)
        return self

    def split(self, arrived_at: float, written_at: float | None) -> Split | None:
        return stitch(arrived_at, self.state.log, written_at)


def parts(split: Split | None) -> list[float]:
    assert split is not None
    return [split.seconds(part) for part in Part]


def test_what_the_router_saw_later_is_right() -> None:
    log = Log().planned(10).prefilled(36, LegTimes(queue_s=5, compute_s=20))
    # Landed at 25 and scheduled at 27 by those durations: before the prompt was computed.
    log.came(30, LegTimes(room_s=1, fetch_s=14, queue_s=2, compute_s=8))
    assert parts(log.split(7, 32)) == [3, 5, 10, 0, 2, 5, 0]


def test_both_legs_at_once() -> None:
    log = Log().planned(10).prefilled(36, LegTimes(queue_s=5, compute_s=20))
    log.came(52, LegTimes(room_s=1, fetch_s=28, queue_s=2, compute_s=8))
    assert parts(log.split(7, 55)) == [3, 5, 20, 4, 2, 8, 6]


def test_one_leg_after_the_other() -> None:
    log = Log().planned(10, Dispatch.SEQUENTIAL)
    log.prefilled(37, LegTimes(queue_s=5, compute_s=20))
    log.came(60, LegTimes(room_s=3, fetch_s=4, queue_s=2, compute_s=8))
    # The news of the prompt came 2 s after it was computed: part of handing over.
    assert parts(log.split(10, 61)) == [0, 5, 20, 2 + 4, 3 + 2, 8, 7]


def test_room_that_comes_late_is_decodes_queue() -> None:
    log = Log().planned(0).prefilled(11, LegTimes(queue_s=2, compute_s=8))
    log.came(40, LegTimes(room_s=25, fetch_s=5, queue_s=1, compute_s=9))
    assert parts(log.split(0, 40)) == [0, 2, 8, 5, 16, 9, 0]


def test_a_prompt_computed_where_the_answer_is() -> None:
    log = Log().planned(4, None).came(20, LegTimes(queue_s=5, compute_s=7))
    assert parts(log.split(1, 23)) == [3, 5, 7, 0, 0, 0, 7]
    assert parts(log.split(1, None)) == [3, 5, 7, 0, 0, 0, 4]


def test_news_of_the_prompt_may_come_after_the_token() -> None:
    log = Log().planned(0).came(20, LegTimes(fetch_s=12, compute_s=8))
    assert parts(log.split(0, 20)) == [0, 0, 12, 0, 0, 8, 0]
    log.prefilled(21, LegTimes(queue_s=4, compute_s=6))
    assert parts(log.split(0, 20)) == [0, 4, 6, 2, 0, 8, 0]


def test_failed_attempts_count_where_they_were_spent() -> None:
    log = Log().planned(1).full(3).planned(4).prefilled(8, LegTimes(queue_s=1, compute_s=2))
    log.lost(9).planned(11, None).came(20, LegTimes(queue_s=3, compute_s=4))
    split = log.split(0, 21)
    # 1 + 1 + 2 s in the router; 2 s until it was refused, then 1 + 2 s; 2 s until it was lost.
    assert parts(split) == [4, 2 + 1 + 3, 2 + 4, 2, 0, 0, 3]
    assert split is not None
    assert split.total_s == 21


def test_late_news_of_a_failed_attempt_is_not_the_next_ones() -> None:
    log = Log().planned(1).lost(2).planned(3).prefilled(4, LegTimes(compute_s=1), attempt=0)
    log.came(10, LegTimes(fetch_s=5, compute_s=2))
    assert parts(log.split(0, 10)) == [2, 1, 5, 0, 0, 2, 0]


def test_an_answer_that_is_resumed_keeps_its_split() -> None:
    log = Log().planned(1, None).came(5, LegTimes(queue_s=1, compute_s=2))
    before = log.split(0, 6)
    log.lost(7).planned(8).prefilled(9, LegTimes(compute_s=1)).came(12, LegTimes(compute_s=1))
    assert log.split(0, 6) == before


def test_nothing_is_told_before_the_first_token() -> None:
    assert Log().planned(1).split(0, 2) is None
    assert stitch(0, (), 2) is None


SECONDS = st.floats(0, 1e4)
TIMES = st.builds(LegTimes, SECONDS, SECONDS, SECONDS, SECONDS)


@given(
    st.lists(SECONDS, min_size=6, max_size=6),
    TIMES,
    TIMES,
    st.sampled_from([None, *Dispatch]),
    st.booleans(),
    st.booleans(),
)
def test_parts_are_not_negative_and_add_up(
    gaps: list[float],
    prompt: LegTimes,
    answer: LegTimes,
    dispatch: Dispatch | None,
    fails: bool,
    streams: bool,
) -> None:
    at = [sum(gaps[: i + 1]) for i in range(6)]
    log = Log()
    if fails:
        log.planned(at[0]).prefilled(at[1], prompt).lost(at[1])
    log.planned(at[2], dispatch)
    if dispatch is not None:
        log.prefilled(at[3], prompt)
    log.came(at[4], answer)
    split = log.split(0, at[5] if streams else None)
    assert min(parts(split)) >= 0
    assert sum(parts(split)) == pytest.approx(at[5] if streams else at[4], abs=1e-6)
    assert split is not None
    assert split.total_s == pytest.approx(sum(parts(split)))


def test_a_split_is_told_in_milliseconds() -> None:
    split = Log().planned(4, None).came(20, LegTimes(queue_s=5, compute_s=7)).split(1, 23)
    assert split is not None
    assert split.told().startswith("first token after 22000.0 ms: admission_queue 3000.0, prefill")
    assert split.header().startswith("admission_queue;dur=3000.000, prefill_queue;dur=5000.000, ")


@given(st.integers(2, 100), *[st.floats(-1e3, 1e4)] * 3)
def test_the_parts_per_token_add_up(
    tokens: int, stepped_s: float, received_s: float, written_s: float
) -> None:
    split = split_tokens(tokens, stepped_s, received_s, written_s)
    assert split is not None
    found = [split.seconds(part) for part in TokenPart]
    assert min(found) >= 0
    assert sum(found) * (tokens - 1) == pytest.approx(max(written_s, 0), abs=1e-6)


def test_the_time_per_token_by_part() -> None:
    split = split_tokens(11, 20.0, 24.0, 27.0)
    assert split is not None
    assert (split.step, split.frame_wait, split.write) == pytest.approx((2.0, 0.4, 0.3))
    assert split_tokens(1, 20.0, 24.0, 27.0) is None
