"""Silence is noticed in two steps; who is lost often is left alone for longer."""

import pytest

from baton.ids import WorkerId
from router.watch import Verdict, Watch

W = WorkerId("w")


@pytest.mark.parametrize(
    ("silent_s", "verdict"),
    [(0.0, Verdict.FINE), (0.4, Verdict.FINE), (0.5, Verdict.SHUN), (1.0, Verdict.LOSE)],
)
def test_silence(silent_s: float, verdict: Verdict) -> None:
    assert Watch(1.0).verdict(W, 10.0, 10.0 + silent_s) is verdict


def left_alone_s(losses: int) -> float:
    watch = Watch(1.0)
    for _ in range(losses):
        watch.lost(W, 10.0)
    steps = (n / 4 for n in range(1000))
    return next(s for s in steps if watch.verdict(W, 10.0 + s, 10.0 + s) is Verdict.FINE)


def test_flapping_costs_more_each_time_up_to_a_bound() -> None:
    assert [left_alone_s(n) for n in (0, 1, 2, 3, 4, 20)] == [0.0, 0.0, 1.0, 2.0, 4.0, 30.0]


def test_a_long_time_without_a_loss_is_forgiven() -> None:
    watch = Watch(1.0)
    for _ in range(5):
        watch.lost(W, 10.0)
    watch.lost(W, 100.0)
    assert watch.verdict(W, 100.1, 100.1) is Verdict.FINE


def test_who_left_is_forgotten() -> None:
    watch = Watch(1.0)
    for _ in range(5):
        watch.lost(W, 10.0)
    watch.keep([])
    assert watch.verdict(W, 10.0, 10.0) is Verdict.FINE


def test_a_clock_that_jumps_back_shuns_nobody_for_ever() -> None:
    watch = Watch(1.0)
    watch.lost(W, 1e6)
    watch.lost(W, 1e6)
    assert watch.verdict(W, 10.0, 10.0) is Verdict.FINE
