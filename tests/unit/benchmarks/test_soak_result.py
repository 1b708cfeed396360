from __future__ import annotations

import pytest

from benchmarks.soak_result import (
    ABORT_TARGET_S,
    FAILURES,
    FULL,
    QUICK,
    WRITE_DEADLINE_S,
    Result,
    is_good,
)

DEMANDED = (
    "requests",
    "finished",
    "recomputed",
    "typed_errors",
    "wrong",
    "leaked_blocks",
    "worst_reclaim_s",
    "worst_abort_reclaim_s",
    "seed",
)


def good() -> Result:
    """Some faults, and nothing that must not be."""
    result = Result(7, worst_reclaim_s=WRITE_DEADLINE_S, worst_abort_reclaim_s=ABORT_TARGET_S / 2)
    result.ends.update({"finished": 5, "typed_error": 1, "cancelled": 2, "deadline": 1})
    result.counts.update({"recomputed": 2, "kills_prefill": 1, "wrong": 0})
    return result


def test_the_line_says_what_is_asked_for() -> None:
    line = good().line(12.34)
    assert set(DEMANDED) <= line.keys()
    wanted = {"requests": 9, "typed_errors": 1, "recomputed": 2, "seed": 7, "seconds": 12.3}
    assert wanted.items() <= line.items()
    assert line["kills_prefill"] == 1
    assert is_good(line)


@pytest.mark.parametrize("failure", FAILURES)
def test_one_failure_is_enough(failure: str) -> None:
    result = good()
    (result.ends if failure in ("hung", "untyped") else result.counts).update({failure: 1})
    line = result.line(1.0)
    assert line[failure] == 1
    assert not is_good(line)


def test_what_comes_back_late_is_a_failure() -> None:
    slow, slow_abort = good(), good()
    slow.worst_reclaim_s = 2 * WRITE_DEADLINE_S + 0.1
    slow_abort.worst_abort_reclaim_s = ABORT_TARGET_S + 0.01
    assert not is_good(slow.line(1.0))
    assert not is_good(slow_abort.line(1.0))


def test_what_is_left_is_a_failure() -> None:
    result = good()
    result.left.append("process 12")
    assert not is_good(result.line(1.0))


def test_sizes() -> None:
    assert sum(QUICK.requests) * len(QUICK.transports) >= 150
    assert sum(FULL.requests) * len(FULL.transports) >= 3000
    fewer = FULL.of(300)
    assert len(fewer.requests) == len(FULL.requests)
    assert abs(sum(fewer.requests) * len(fewer.transports) - 300) < 10
