"""What is said of the watchers' spans."""

from __future__ import annotations

import pytest

from benchmarks.stolen import Stolen


@pytest.fixture
def stolen() -> Stolen:
    stolen = Stolen()
    stolen.spans = [(1.0, 1.5), (3.0, 4.0)]
    return stolen


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
