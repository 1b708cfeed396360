"""Silence is noticed in two steps; who is lost often is left alone for longer."""

import pytest

from baton.ids import WorkerId
from router.watch import Verdict, Watch

W = WorkerId("w")


@pytest.mark.parametrize(
    ("silent_s", "verdict"),
    [(0.0, Verdict.FINE), (0.4, Verdict.FINE), (0.55, Verdict.SHUN), (1.05, Verdict.LOSE)],
)
def test_silence(silent_s: float, verdict: Verdict) -> None:
    assert verdict_after(silent_s, look_every_s=0.05) is verdict


def verdict_after(silent_s: float, look_every_s: float) -> Verdict:
    """On a worker that has said nothing since the first look."""
    watch, now = Watch(1.0), 10.0
    watch.begins(now)
    watch.verdict(W, 10.0, now)
    for _ in range(round(silent_s / look_every_s)):
        now += look_every_s
        watch.begins(now)
    return watch.verdict(W, 10.0, now + 1e-9)


def test_a_watcher_that_hardly_keeps_up_waits_for_what_it_has_not_heard_yet() -> None:
    assert verdict_after(2.0, look_every_s=0.5) is Verdict.FINE
    assert verdict_after(4.5, look_every_s=0.5) is Verdict.SHUN
    assert verdict_after(60.0, look_every_s=30.0) is Verdict.FINE


def test_a_word_ends_the_silence() -> None:
    watch = Watch(1.0)
    for tenth in range(50):
        now = 10 + tenth / 10
        watch.begins(now)
        assert watch.verdict(W, now if tenth % 4 == 0 else now - (tenth % 4) / 10, now) is (
            Verdict.FINE
        )


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
