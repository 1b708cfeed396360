"""The scheduler's moments become durations that add up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baton.messages import LegTimes
from engine.leg_times import leg_times, moments
from engine.ports import LegEnd, Moments
from tests.fakes.engine import FakeOutput
from tests.fakes.worker import House, decode, prefill, solo
from tests.unit.engine.hearing import news, step

SECONDS = st.floats(-1e6, 1e6)
EVENTS = st.lists(
    st.tuples(st.sampled_from(["QUEUED", "SCHEDULED", "PREEMPTED"]), SECONDS), max_size=8
)


@given(SECONDS, st.floats(0, 1e5), EVENTS)
def test_durations_are_not_negative_and_add_up(
    taken_at: float, seconds: float, events: list[tuple[str, float]]
) -> None:
    now = taken_at + seconds
    found = leg_times(taken_at, moments(events), now)
    parts = (found.room_s, found.fetch_s, found.queue_s, found.compute_s)
    assert min(parts) >= 0
    assert sum(parts) == pytest.approx(now - taken_at, abs=1e-6)


def test_a_leg_that_fetches_is_queued_three_times() -> None:
    events = [("QUEUED", 1.0), ("QUEUED", 3.0), ("QUEUED", 6.0), ("SCHEDULED", 10.0)]
    assert moments(events) == Moments(3.0, 6.0, 10.0)
    assert leg_times(0.5, moments(events), 15.0) == LegTimes(2.5, 3.0, 4.0, 5.0)


def test_a_repeated_load_counts_as_fetching() -> None:
    events = [("QUEUED", 1.0), *(("QUEUED", float(at)) for at in (2, 3, 4, 5)), ("SCHEDULED", 6.0)]
    assert leg_times(1.0, moments(events), 6.0) == LegTimes(1.0, 3.0, 1.0, 0.0)


def test_a_prompt_computed_here_waits_and_computes() -> None:
    events = [("QUEUED", 1.0), ("SCHEDULED", 3.0), ("PREEMPTED", 4.0), ("SCHEDULED", 5.0)]
    assert leg_times(0.0, moments(events), 7.0) == LegTimes(0.0, 0.0, 3.0, 4.0)


def test_what_is_not_known_counts_as_computing() -> None:
    assert leg_times(1.0, moments([]), 4.0) == LegTimes(compute_s=3.0)


async def test_a_first_output_tells_where_its_time_went() -> None:
    house = House()
    link = house.worker.open_link("r")
    for submit in (prefill("a.0.p"), decode("a.0.d"), solo("b.0.s")):
        await house.worker.submit(link, submit)
    house.clock.advance(10)
    step(
        house,
        FakeOutput("a.0.p", 0, LegEnd.DONE, {"blocks": [1]}, 0, Moments(scheduled_at=104.0)),
        FakeOutput("a.0.d", moments=Moments(101.0, 103.0, 106.0)),
        FakeOutput("b.0.s", moments=Moments(scheduled_at=109.0)),
    )
    house.clock.advance(2)
    step(house, FakeOutput("b.0.s"))
    first, later = news(link)
    told = {
        p.leg_id: (p.times.room_s, p.times.fetch_s, p.times.queue_s, p.times.compute_s)
        for p in first.prefilled
    }
    assert told == {"a.0.p": (0, 0, 4, 6), "a.0.d": (1, 2, 3, 4), "b.0.s": (0, 0, 9, 1)}
    assert not later.prefilled
    assert later.load.steps_s - first.load.steps_s == 2
