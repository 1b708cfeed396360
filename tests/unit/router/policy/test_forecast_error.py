"""The margin follows what was seen, and covers nearly all of it."""

from __future__ import annotations

import random

import pytest

from router.policy.forecast_error import ForecastError


def test_nothing_seen_nothing_added() -> None:
    assert ForecastError().margin_s == 0.0


def test_a_constant_delay_is_added_and_early_tokens_take_nothing_off() -> None:
    late, early = ForecastError(), ForecastError()
    for _ in range(500):
        late.came(1.0, 1.3, 5.0)
        early.came(1.0, 0.5, 5.0)
    assert late.margin_s == pytest.approx(0.3, abs=0.01)
    assert early.margin_s == 0.0


def test_noise_is_covered_nineteen_times_of_twenty() -> None:
    rng, error = random.Random(1), ForecastError()
    covered = 0
    for number in range(4000):
        off_s = rng.gauss(0.1, 0.2)
        covered += number >= 2000 and off_s <= error.margin_s
        error.came(1.0, 1.0 + off_s, 5.0)
    assert covered / 2000 > 0.9


def test_what_had_other_reasons_counts_no_more_than_the_bound() -> None:
    error = ForecastError()
    error.came(1.0, 1000.0, 2.0)
    assert error.margin_s <= 0.05 * 2.0 * 3
