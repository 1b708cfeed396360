"""Intervals of shares."""

import pytest

from simulator.planning.surety import surety


def test_bursts_make_it_less_sure() -> None:
    scattered = [n % 10 != 0 for n in range(2000)]
    bursts = [n % 1000 >= 100 for n in range(2000)]
    calm, wild = surety([scattered]), surety([bursts])
    assert calm.mean == wild.mean == pytest.approx(0.9)
    assert calm.high - calm.low < 0.01
    assert wild.high - wild.low > 0.03
    assert wild.low <= wild.mean <= wild.high


def test_seeds_that_differ_widen_it() -> None:
    both = surety([[True] * 100, [False] * 100])
    assert (both.mean, both.low, both.high) == (0.5, 0.0, 1.0)


def test_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        surety([])
