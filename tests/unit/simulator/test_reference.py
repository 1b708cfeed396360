"""The reference setting: queues, caches and what routers may know."""

import pytest

from benchmarks.routing_baselines import RULES, DualMapQueue, maker
from benchmarks.routing_runs import ASKING, BLIND, FRESH, few_keys
from simulator import desk
from simulator.reference import Run, View, Worker, caches_of
from simulator.words import Arrival, Send, Setting


class ToOne:
    def arrived(self, arrival, now):
        return (Send(arrival, 0),)

    def computed(self, *_facts):
        return ()

    def woken(self, now):
        return ()


def arrivals(*rows):
    return [Arrival(n, at_s, tokens, blocks) for n, (at_s, tokens, blocks) in enumerate(rows)]


def test_one_queue_in_order_with_an_lru_of_blocks() -> None:
    setting = Setting(workers=2, cache_tokens=1024, unscored=0)
    rows = arrivals((0.0, 1024, (1, 2)), (0.0, 1024, (1, 2)), (1.0, 512, (3,)), (9.0, 1024, (1, 2)))
    run = Run(setting, rows, lambda *_: ToOne())
    score = run.go()
    assert run.cached == [0, 1024, 0, 512]
    assert run.ttft_s == pytest.approx([0.17384, 0.18384, 0.09192, 0.09192])
    assert score.attained == 1.0


def test_routers_may_ask_only_where_the_setting_says_so() -> None:
    rows = few_keys(4, 20, per_s=5.0)
    with pytest.raises(ValueError, match="may not ask"):
        Run(BLIND, rows, desk.maker(0, may_ask=True)).go()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("setting", [FRESH, BLIND], ids=["fresh", "blind"])
def test_every_rule_serves_everything(rule, setting) -> None:
    rows = few_keys(20, 560, per_s=6.0)
    run = Run(setting, rows, maker(RULES[rule], 1))
    run.go()
    assert min(run.ttft_s) > 0


@pytest.mark.parametrize("setting", [FRESH, BLIND, ASKING], ids=["fresh", "blind", "ask"])
def test_baton_serves_everything_and_never_below_power_of_two(setting) -> None:
    rows = few_keys(32, 900, per_s=9.0)
    ours = Run(setting, rows, desk.maker(3, may_ask=setting.ask_s is not None)).go()
    theirs = Run(BLIND, rows, maker(RULES["power of two"], 3)).go()
    assert ours.attained >= theirs.attained - 0.01


def test_a_run_repeats_itself() -> None:
    rows = few_keys(32, 600, per_s=9.0)
    assert len({Run(BLIND, rows, desk.maker(3, may_ask=False)).go() for _ in range(2)}) == 1


def test_dualmap_with_its_queue_sends_the_longest_hit_first_and_moves_what_waits() -> None:
    setting = Setting(workers=2, unscored=0)
    alike = [(0.0, 15_360, (1, 2, *range(100 * n, 100 * n + 28))) for n in range(2, 6)]
    again = (0.1, 15_360, alike[0][2])
    run = Run(setting, arrivals(*alike, again), maker(DualMapQueue, 1))
    run.go()
    assert min(run.work_s) > 0
    assert run.ttft_s[4] < max(run.ttft_s[:4])


def test_dualmap_with_its_queue_leaves_a_home_beyond_the_slo() -> None:
    setting = Setting(workers=4)
    caches = caches_of(setting)
    view = View(setting, [Worker(setting, n, caches) for n in range(4)], caches)
    router = maker(DualMapQueue, 1)(view, 0)
    rows = [Arrival(n, 0.0, 10_240, tuple(range(100 * n, 100 * n + 20))) for n in range(40)]
    by_number = {}
    for row in rows:
        router._hold(row, 0, 1 + row.number % 3)
        by_number[row.number] = 1 + row.number % 3
    router._rebalance(0, 0.0)
    assert router.queues_s(0.0)[0] > 5.0 >= max(router.queues_s(0.0)[1:]) > 3.0
    for worker in (1, 2, 3):
        assert {by_number[n] for n in router._held[worker]} == {worker}
    assert sum(map(len, router._held)) == len(rows)
