"""One pool's judgement in detail."""

import pytest

from baton.messages import Role
from cluster.scaling.memory import Past, PoolMemory
from cluster.scaling.pools import Desk, judge, remember
from tests.unit.cluster.scaling.sights import pool, rules, sight


def desk(seen, role=Role.DECODE, now=1000.0, **settings):
    memory = remember(PoolMemory(), seen, now)
    view = sight(decode=seen) if role is Role.DECODE else sight(seen)
    return Desk(role, seen, view, memory, rules(**settings), now)


@pytest.mark.parametrize(("load", "workers"), [(0.0, 0), (1.0, 1.25), (4.0, 4.5), (16.0, 17.0)])
def test_spare_workers_grow_with_the_root(load, workers):
    assert desk(pool()).staffed(load) == pytest.approx(workers)


def test_full_memory_asks_in_proportion():
    need, _ = judge(desk(pool(4, 1.0, kv=0.99), kv_utilization=0.9))
    assert (need.wanted, need.reason.value) == (5, "kv")


def test_a_backlog_that_will_be_gone_asks_for_nobody():
    need, _ = judge(desk(pool(4, 2.0, backlog=20.0)))
    assert need.wanted == 4
    need, _ = judge(desk(pool(4, 3.6, backlog=20.0)))
    assert (need.wanted, need.reason.value) == (5, "backlog")


def test_measurements_of_another_pool_do_not_count():
    seen = pool(3, 2.2, attained=3.0, predicted=3.0)
    changed = remember(PoolMemory(ready=2), seen, 1000.0)
    assert changed.changed_s == 1000.0
    for now, wanted in ((1119.0, 3), (1121.0, 4)):
        asked = Desk(Role.DECODE, seen, sight(decode=seen), changed, rules(), now)
        assert judge(asked)[0].wanted == wanted


def test_whoever_stays_has_to_carry_a_surge():
    """Without noise 3 do for a load of 2: 2.35 over the hold band of 0.85."""
    seen = pool(6, 2.0)
    for scatter, spare in ((0.0, 3), (0.03, 3), (0.1, 2), (0.2, 1), (0.4, 0)):
        memory = PoolMemory(Past(2.0, noise=scatter, at_s=1000.0))
        asked = Desk(Role.DECODE, seen, sight(decode=seen), memory, rules(), 1000.0)
        assert judge(asked)[0].spare == spare


def test_spare_workers_are_those_that_nobody_misses():
    assert judge(desk(pool(6, 1.4)))[0].spare == 3
    assert judge(desk(pool(6, 2.0, starting=1)))[0].spare == 0
