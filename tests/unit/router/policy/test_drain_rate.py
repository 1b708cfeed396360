"""What left lately says how long to wait."""

from __future__ import annotations

import pytest

from router.policy.drain_rate import WAIT_MAX_S, DrainRate


def test_nothing_has_left() -> None:
    assert DrainRate().seconds(10, 5.0) == WAIT_MAX_S


def test_a_steady_rate_is_found() -> None:
    rate = DrainRate()
    for tenth in range(1000):
        rate.went(50, tenth / 10)
    assert rate.seconds(1000, 100.0) == pytest.approx(2.0, rel=0.05)


def test_it_is_forgotten_and_bounded() -> None:
    rate = DrainRate()
    rate.went(1000, 0.0)
    assert rate.seconds(100, 0.0) == pytest.approx(1.0)
    assert rate.seconds(100, 10.0) > 2.5
    assert rate.seconds(100, 1000.0) == WAIT_MAX_S


def test_a_clock_that_goes_back_is_endured() -> None:
    rate = DrainRate()
    rate.went(1000, 10.0)
    assert rate.seconds(100, 5.0) == pytest.approx(1.0)
