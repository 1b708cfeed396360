"""A minute's worth, refilled with time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.policy.buckets import MinuteBucket


def test_no_limit() -> None:
    bucket = MinuteBucket(0)
    bucket.take(1e9, 0.0)
    assert bucket.wait_s(1e9, 0.0) == 0.0


def test_a_minutes_worth_at_once_then_at_the_rate() -> None:
    bucket = MinuteBucket(60)
    for _ in range(60):
        assert bucket.wait_s(1, 100.0) == 0.0
        bucket.take(1, 100.0)
    assert bucket.wait_s(1, 100.0) == pytest.approx(1.0)
    assert bucket.wait_s(5, 102.0) == pytest.approx(3.0)
    assert bucket.wait_s(2, 102.0) == 0.0


def test_more_than_a_minutes_worth_waits_for_a_full_bucket_and_is_made_up_for() -> None:
    bucket = MinuteBucket(600)
    assert bucket.wait_s(2000, 0.0) == 0.0
    bucket.take(2000, 0.0)
    assert bucket.wait_s(1, 0.0) == pytest.approx(140.1)
    assert bucket.wait_s(1, 141.0) == 0.0


@given(st.lists(st.tuples(st.floats(-5, 5), st.integers(1, 40)), max_size=40))
def test_any_clock_lets_through_no_more_than_the_limit(steps: list[tuple[float, int]]) -> None:
    bucket = MinuteBucket(60)
    now = latest = 50.0
    taken = 0
    for passed, amount in steps:
        now += passed
        latest = max(latest, now)
        if bucket.wait_s(amount, now) == 0.0:
            bucket.take(amount, now)
            taken += amount
    forwards = sum(max(passed, 0.0) for passed, _ in steps)
    assert taken <= 60 + forwards + 1e-6
