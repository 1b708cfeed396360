"""The last minutes, from totals at regular moments."""

from __future__ import annotations

import pytest

from router.ui.figures import Buckets, Figures
from router.ui.history import POINTS_MAX, STEP_S, WINDOW_S, History, Totals, totals_of

BOUNDS = (0.1, 1.0, float("inf"))


def totals(at_s: float, quick: int = 0, slow: int = 0, **more: float) -> Totals:
    return Totals(at_s, ttft=Buckets(BOUNDS, (quick, quick + slow, quick + slow)), **more)


def test_the_totals_of_a_reading() -> None:
    found = Figures(
        {
            "baton_requests_total": [
                ({"outcome": "finished", "reason": ""}, 5.0),
                ({"outcome": "failed", "reason": "worker_lost"}, 2.0),
                ({"outcome": "cancelled", "reason": "cancelled"}, 1.0),
            ],
            "baton_refusals_total": [({"reason": "queue_full"}, 4.0)],
            "baton_time_to_first_token_seconds_bucket": [({"le": "+Inf"}, 7.0), ({"le": "1"}, 6.0)],
        }
    )
    made = totals_of(found, 3.0)
    assert (made.at_s, made.finished, made.failed, made.refused) == (3.0, 5, 3, 4)
    assert made.ttft == Buckets((1.0, float("inf")), (6, 7))
    assert made.tpot.count == 0


def test_percentiles_are_of_the_window_and_not_of_what_came_before() -> None:
    history = History()
    history.note(totals(0, slow=100))
    for step in range(1, int(WINDOW_S / STEP_S) + 3):
        history.note(totals(step * STEP_S, slow=100, quick=step))
    latest = list(history)[-1]
    assert latest.ttft.count == WINDOW_S / STEP_S
    assert latest.ttft.p99 is not None
    assert latest.ttft.p99 < 0.1
    assert latest.tpot.p50 is None


def test_what_just_came_is_in_the_newest_point_at_once() -> None:
    history = History()
    history.note(totals(0))
    assert history.point(totals(1, slow=1)).ttft.count == 1
    assert [point.ttft.count for point in history] == [0]


def test_rates_are_of_the_last_seconds() -> None:
    history = History()
    for second in range(0, 31, 5):
        history.note(totals(second, finished=second * 2.0, refused=max(second - 20.0, 0) * 3))
    point = list(history)[-1]
    assert (point.finished, point.refused, point.failed) == (pytest.approx(2), pytest.approx(3), 0)


def test_a_young_history_divides_by_what_it_has() -> None:
    history = History()
    assert history.point(totals(7, finished=3)).finished == 0
    history.note(totals(0))
    assert history.point(totals(2, finished=4)).finished == pytest.approx(2)


def test_it_is_bounded_and_notes_at_its_own_pace() -> None:
    history = History()
    assert history.due(0)
    for step in range(POINTS_MAX * 2):
        history.note(totals(step * STEP_S))
    last = (POINTS_MAX * 2 - 1) * STEP_S
    assert not history.due(last + STEP_S - 0.1)
    assert history.due(last + STEP_S)
    ages = [last - point.at_s for point in history]
    assert (len(ages), ages[0], ages[-1]) == (POINTS_MAX, (POINTS_MAX - 1) * STEP_S, 0)
