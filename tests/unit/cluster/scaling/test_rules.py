"""Bounds and budget."""

from baton.messages import Role
from tests.unit.cluster.scaling.sights import rules


def test_bounds_are_per_pool():
    told = rules(prefill_min_workers=2, decode_max_workers=5)
    assert [told.clamp(Role.PREFILL, n) for n in (0, 3, 99)] == [2, 3, 10]
    assert [told.clamp(Role.DECODE, n) for n in (0, 3, 99)] == [1, 3, 5]


def test_no_budget_is_no_limit():
    assert rules().within_budget(99, 99)
    assert rules(gpu_budget=4).within_budget(2, 2)
    assert not rules(gpu_budget=4).within_budget(2, 3)
