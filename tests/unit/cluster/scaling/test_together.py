"""Both pools: blame, budget, and roles."""

import pytest

from baton.messages import Role
from cluster.scaling.decision import Reason
from cluster.scaling.pools import Need
from cluster.scaling.together import Plan, decode_limits, passed_on, plan
from tests.unit.cluster.scaling.sights import pool, rules, sight


def need(role, current, wanted, load, spare=0):
    return Need(role, current, wanted, load, spare, Reason.LOAD, "")


def planned(prefill, decode, *, may_change=True, **settings):
    needs = need(Role.PREFILL, *prefill), need(Role.DECODE, *decode)
    return plan(*needs, rules(**settings), may_change=may_change)


def test_decode_limits_when_full_or_when_more_waits_for_it():
    assert not decode_limits(sight(), rules())
    assert decode_limits(sight(decode=pool(kv=0.95)), rules())
    assert decode_limits(sight(pool(backlog=1.0), pool(backlog=2.0)), rules())
    assert not decode_limits(sight(pool(backlog=3.0), pool(backlog=2.0)), rules())
    alone = rules(prefill_min_workers=0, prefill_max_workers=0)
    assert decode_limits(sight(), alone)


def test_only_what_the_other_pool_can_pass_on():
    view = sight(pool(2, 20.0), pool(2, 5.0))
    assert passed_on(view, rules(), Role.DECODE) == 0.5
    assert passed_on(view, rules(), Role.PREFILL) == 1.0
    assert passed_on(sight(pool(0, 0.0)), rules(), Role.DECODE) == 1.0


@pytest.mark.parametrize(
    ("prefill", "decode", "made"),
    [
        ((2, 2, 1.0), (2, 2, 1.0), Plan(2, 2)),
        ((4, 4, 0.5, 3), (2, 4, 3.0), Plan(2, 4, to_decode=2)),
        ((4, 4, 0.5, 1), (2, 5, 3.0), Plan(3, 5, to_decode=1)),
        ((2, 4, 3.0), (4, 4, 0.5, 3), Plan(4, 2, to_prefill=2)),
        ((2, 3, 2.0), (2, 3, 2.0), Plan(3, 3)),
    ],
)
def test_who_is_missed_less_changes(prefill, decode, made):
    assert planned(prefill, decode) == made


def test_a_pool_that_grows_gives_nobody_away():
    assert planned((3, 4, 3.0, 2), (2, 4, 3.0)) == Plan(4, 4)


def test_the_budget_is_kept_without_role_changes():
    made = planned((4, 4, 1.0, 2), (4, 6, 5.0), may_change=False, gpu_budget=8)
    assert made == Plan(4, 4)


def test_a_smaller_budget_is_kept():
    assert planned((4, 4, 2.0), (4, 4, 3.0), gpu_budget=6, may_change=False) == Plan(2, 4)
