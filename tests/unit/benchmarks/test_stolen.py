"""What is said of the watchers' spans."""

from __future__ import annotations

import pytest

from benchmarks.stolen import Stolen


@pytest.fixture
def stolen() -> Stolen:
    return Stolen([(3.0, 4.0), (1.0, 1.5)])


@pytest.mark.parametrize(
    ("start", "end", "touched"),
    [(0.0, 1.0, False), (0.9, 1.1, True), (1.1, 1.2, True), (1.5, 3.0, False), (0.0, 9.0, True)],
)
def test_a_moment_is_disturbed_if_any_core_stood_still(
    stolen: Stolen, start: float, end: float, touched: bool
) -> None:
    assert stolen.touches(start, end) is touched


def test_what_was_taken_is_summed_over_the_cores(stolen: Stolen) -> None:
    assert stolen.total_s == 1.5


def test_a_long_span_of_one_core_outlasts_short_ones_of_another() -> None:
    stolen = Stolen([(1.0, 5.0), (2.0, 2.1), (3.0, 3.1)])
    assert stolen.touches(4.0, 4.5)
    assert not stolen.touches(5.0, 6.0)
    assert not Stolen().touches(0.0, 9.0)
