from __future__ import annotations

from dataclasses import replace
from itertools import islice

import pytest

from benchmarks.soak_faults import UNSPOILT, Spoil
from benchmarks.soak_plan import AFTER_MAX_S, GAP_MAX_S, Ending, Planned, Way, plans

QUESTIONS = 5
MANY = list(islice(plans(1, QUESTIONS), 2000))


def test_the_same_seed_plans_the_same() -> None:
    assert list(islice(plans(1, QUESTIONS), 50)) == MANY[:50]
    assert list(islice(plans(2, QUESTIONS), 50)) != MANY[:50]


def test_a_plan_depends_on_its_number_alone() -> None:
    assert next(plans(1, QUESTIONS, first=30)) == MANY[30]


def test_everything_occurs() -> None:
    assert {one.ending for one in MANY} == set(Ending)
    assert {one.way for one in MANY} == set(Way)
    assert {one.question for one in MANY} == set(range(QUESTIONS))
    assert any(one.spoil.drop for one in MANY)
    assert any(one.spoil.delay for one in MANY)
    assert min(one.gap_s for one in MANY) < 0 < max(one.gap_s for one in MANY)


def test_times_are_bounded() -> None:
    assert all(0 <= one.after_s <= AFTER_MAX_S for one in MANY)
    assert all(abs(one.gap_s) <= GAP_MAX_S for one in MANY)


def test_prefixes_are_shared_and_not() -> None:
    salts = {one.salt for one in MANY}
    assert len(MANY) / 4 < len(salts) < len(MANY) * 3 / 4


def test_most_requests_meet_no_fault() -> None:
    calm = [one for one in MANY if one.ending is Ending.WAITED and one.spoil == UNSPOILT]
    assert len(calm) > len(MANY) * 0.4


@pytest.mark.parametrize(
    ("changes", "plain"),
    [
        ({}, True),
        ({"ending": Ending.DEADLINE}, True),
        ({"spoil": Spoil(repeat=10)}, True),
        ({"spoil": Spoil(drop=10)}, False),
        ({"ending": Ending.CANCEL_DECODE}, False),
        ({"ending": Ending.WAITED}, False),
        ({"way": Way.SOLO_DECODE}, False),
    ],
)
def test_a_plain_abort_takes_both_legs_back(changes: dict[str, object], plain: bool) -> None:
    one = replace(Planned(1, 0, "salt", ending=Ending.CANCEL_BOTH), **changes)
    assert one.is_plain_abort is plain
