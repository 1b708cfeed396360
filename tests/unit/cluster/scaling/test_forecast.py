"""The load one start-up ahead."""

import pytest

from cluster.scaling.forecast import ahead, noise, seen
from cluster.scaling.memory import DAY_S, Past


def fed(load, seconds, past=None, start=0.0, every=5.0):
    past = past or Past()
    for n in range(int(seconds / every)):
        past = seen(past, load(start + n * every), start + n * every)
    return past


def test_the_first_measurement_is_the_level():
    past = seen(Past(), 3.0, 100.0)
    assert (past.level, past.trend_per_s) == (3.0, 0.0)
    assert ahead(past, 60.0, 100.0) == 3.0


def test_a_ramp_is_seen_ahead():
    past = fed(lambda t: 1.0 + t / 600, 1800)
    assert past.trend_per_s == pytest.approx(1 / 600, rel=0.1)
    assert ahead(past, 60.0, 1800.0) == pytest.approx(4.08, abs=0.05)


def test_a_fall_removes_nothing():
    past = fed(lambda t: 5.0 - t / 200, 600)
    assert ahead(past, 60.0, 600.0) == past.level


def test_noise_is_no_trend():
    past = fed(lambda t: 2.0 + (0.5 if t % 10 else -0.5), 1200)
    assert ahead(past, 60.0, 1200.0) == past.level


def noisy(t):
    return 2.0 + (0.2 if t % 10 else -0.2)


def test_noise_is_how_far_measurements_are_off():
    past = fed(noisy, 3600)
    assert 0.15 < noise(past) < 0.25
    assert noise(fed(lambda t: 2.0, 3600)) < 0.01


def test_a_step_is_no_noise():
    calm = fed(lambda t: 5.0, 3600)
    stepped = fed(lambda t: 2.0, 60, calm, start=3600.0)
    assert noise(stepped) < 0.02


def test_noise_is_taken_over_to_other_loads_by_their_roots():
    past = fed(noisy, 3600)
    quarter = fed(lambda t: 0.5, 120, past, start=3600.0)
    assert noise(quarter) == pytest.approx(noise(past) / 2, rel=0.2)


def test_a_burst_is_believed_only_so_far():
    past = fed(lambda t: 1.0 if t < 300 else 10.0, 310)
    assert ahead(past, 3000.0, 310.0) <= 1.5 * past.level


def test_after_a_gap_the_trend_is_unknown():
    past = fed(lambda t: 1.0 + t / 600, 600)
    assert seen(past, 2.0, 2000.0).trend_per_s == 0.0
    assert seen(past, 9.0, past.at_s) == past


def test_yesterdays_morning_is_expected_today():
    def day(t):
        return 4.0 if 6 * 3600 <= t % DAY_S < 12 * 3600 else 1.0

    past = fed(day, DAY_S + 6 * 3600 - 120, every=60.0)
    now = DAY_S + 6 * 3600 - 120
    assert past.level == pytest.approx(1.0)
    assert ahead(past, 300.0, now) == pytest.approx(4.0)
    assert ahead(past, 60.0, now) == pytest.approx(1.0)


def test_the_first_day_has_no_shape():
    past = fed(lambda t: 1.0, 7200, every=60.0)
    assert ahead(past, 12 * 3600.0, 7200.0) == pytest.approx(1.0)
