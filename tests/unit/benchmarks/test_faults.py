"""What a run of the fault matrix reports, and what counts as good."""

from __future__ import annotations

import pytest

from benchmarks.faults_cells import (
    QUICK,
    SERVED,
    WORKERS,
    Cell,
    Fault,
    Moment,
    Part,
    feasible,
    matrix,
    skipped,
)
from benchmarks.faults_result import Result, is_good, percentile


def test_the_matrix_has_every_cell_once() -> None:
    cells = list(matrix())
    assert len(cells) == len(set(cells)) == len(Part) * len(Fault) * len(Moment)


def test_every_cell_of_a_worker_can_be_carried_out() -> None:
    assert len(feasible(WORKERS)) == len(WORKERS) * len(Fault) * len(Moment)


def test_what_is_not_carried_out_has_a_reason() -> None:
    done = {*feasible(WORKERS | {Part.TRANSPORT}), *feasible(SERVED)}
    assert all((cell in done) == (skipped(cell) is None) for cell in matrix())


def test_a_quick_run_has_the_cells_that_it_promises() -> None:
    assert {
        Cell(Part.PREFILL, Fault.KILL, Moment.MID_PREFILL),
        Cell(Part.DECODE, Fault.KILL, Moment.MID_DECODE),
        Cell(Part.DECODE, Fault.STOP, Moment.MID_DECODE),
        Cell(Part.PREFILL, Fault.STOP, Moment.MID_TRANSFER),
    } <= set(QUICK)
    assert all(skipped(cell) is None for cell in QUICK)


def test_what_was_not_done_is_never_counted_as_done() -> None:
    result = Result(quick=True)
    result.carried_out(QUICK[0])
    result.broken.append(f"{QUICK[1]}: TimeoutError")
    line = result.line(1.0)
    named = [text for texts in line["skipped"].values() for text in texts]
    assert line["cells"] == 1
    assert len(named) == len(list(matrix())) - 2
    assert {str(QUICK[0]), str(QUICK[1])}.isdisjoint(named)


@pytest.mark.parametrize("failure", ["lost", "wrong", "hung", "leaked_blocks"])
def test_one_failure_is_enough(failure: str) -> None:
    assert is_good(Result(quick=False).line(1.0))
    bad = Result(quick=False)
    setattr(bad, failure, 1)
    assert not is_good(bad.line(1.0))


def test_a_cell_that_could_not_be_carried_out_is_a_failure() -> None:
    assert not is_good(Result(quick=False, broken=["decode kill -9 idle: TimeoutError"]).line(1.0))


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([], 99, None), ([3.0], 50, 3.0), ([1.0, 2.0], 50, 1.0), ([2.0, 1.0], 99, 2.0)],
)
def test_percentiles_are_values_that_were_seen(
    values: list[float], share: float, expected: float | None
) -> None:
    assert percentile(values, share) == expected


def test_ninety_nine_of_a_hundred() -> None:
    assert percentile([float(n) for n in range(1, 101)], 99) == 99.0


def test_pauses_of_a_run_are_in_its_line() -> None:
    result = Result(quick=False)
    for seconds in (0.1, 0.3, 0.2):
        result.paused(Fault.KILL, seconds)
    line = result.line(1.0)
    assert line["resume_pause_by_fault_s"] == {"kill -9": [0.2, 0.3]}
    assert (line["resume_pause_p50_s"], line["resume_pause_worst_s"]) == (0.2, 0.3)
    assert Result(quick=False).line(1.0)["resume_pause_p99_s"] is None
