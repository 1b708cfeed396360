"""What workers taught, and for how long it counts."""

from __future__ import annotations

import pytest

from baton.wire import worker_pb2 as pb
from router.outlook import Outlook
from tests.unit.router.planner_kit import COSTS

SLOW, FAST = 0, 1


def costs(token_s: float, samples: int = 50) -> pb.Costs:
    fit = pb.Fit(coefficients=[0.01, token_s, 0.0], samples=samples)
    return pb.Costs(prefill=fit, decode=COSTS.decode, transfer=COSTS.transfer)


def taught() -> Outlook:
    outlook = Outlook()
    outlook.size(2)
    outlook.heard(SLOW, costs(0.01), 0.0)
    outlook.heard(FAST, costs(0.001), 0.0)
    return outlook


def test_what_was_taught_lately_counts() -> None:
    outlook = taught()
    outlook.at(10.0, [SLOW, FAST])
    assert outlook.curves[SLOW].token_s == 0.01
    assert outlook.curves[FAST].token_s == 0.001


def test_what_was_taught_long_ago_counts_less_down_to_a_bound() -> None:
    outlook = taught()
    outlook.at(20.0, [SLOW])
    assert outlook.curves[SLOW].token_s == pytest.approx(0.005)
    assert outlook.curves[FAST].token_s == 0.001  # it decodes
    outlook.at(1000.0, [SLOW])
    assert outlook.curves[SLOW].token_s == pytest.approx(0.001)


def test_a_lesson_ends_it_and_a_repeated_report_is_none() -> None:
    outlook = taught()
    outlook.heard(SLOW, costs(0.01), 30.0)
    outlook.at(31.0, [SLOW])
    assert outlook.curves[SLOW].token_s < 0.003
    outlook.heard(SLOW, costs(0.01, samples=51), 31.0)
    assert outlook.curves[SLOW].token_s == 0.01


def test_a_clock_that_jumps_back_does_no_harm() -> None:
    outlook = taught()
    outlook.at(1000.0, [SLOW])
    outlook.at(5.0, [SLOW])
    assert outlook.curves[SLOW].token_s == 0.01


def test_who_left_is_forgotten() -> None:
    outlook = taught()
    outlook.forget(FAST)
    assert outlook.curves[FAST].token_s == 0.01
    assert outlook.errors(FAST) == {}


def test_nonsense_is_counted_and_ignored() -> None:
    outlook = taught()
    bad = pb.Costs(prefill=pb.Fit(coefficients=[float("nan"), 1.0, 1.0], samples=9))
    outlook.heard(FAST, bad, 1.0)
    assert outlook.ignored == 1
    assert outlook.curves[FAST].token_s == 0.001
