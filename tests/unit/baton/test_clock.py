"""Clocks never go back, and a deadline is a duration seen from one clock."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baton.clock import Clock, Deadline, ManualClock, MonotonicClock

seconds = st.floats(0, 1e6)


def test_the_real_clock_never_decreases() -> None:
    clock: Clock = MonotonicClock()
    readings = [clock.now() for _ in range(100)]
    assert readings == sorted(readings)


@given(seconds, st.lists(seconds, max_size=5))
def test_a_manual_clock_moves_as_told(start: float, steps: list[float]) -> None:
    clock = ManualClock(start)
    for step in steps:
        before = clock.now()
        clock.advance(step)
        assert clock.now() == before + step


@pytest.mark.parametrize("step", [-1.0, math.nan])
def test_a_manual_clock_refuses_to_go_back(step: float) -> None:
    with pytest.raises(ValueError, match="cannot move"):
        ManualClock().advance(step)


@given(seconds, seconds, seconds)
def test_a_deadline_expires_when_nothing_remains(now: float, left: float, later: float) -> None:
    deadline = Deadline.after(now, left)
    assert deadline.expired(now + later) == (deadline.remaining_s(now + later) == 0)
    assert deadline.remaining_s(now + later) >= 0


def test_a_deadline_travels_as_a_duration() -> None:
    here = Deadline.after(100.0, 8.0)
    there = Deadline.after(7.0, here.remaining_s(103.0))
    assert there == Deadline(12.0)


def test_a_deadline_needs_a_moment() -> None:
    with pytest.raises(ValueError, match="NaN"):
        Deadline(math.nan)
