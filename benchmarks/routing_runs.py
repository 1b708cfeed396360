"""The runs behind `benchmarks.routing`: who is compared, in which settings, over which seeds."""

from __future__ import annotations

import itertools
import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from baton import prefix_keys as keys
from benchmarks import routing_baselines
from simulator import desk, mooncake
from simulator.reference import BLOCK_TOKENS, Arrival, Router, Run, Score, Setting, View

FRESH = Setting()
BLIND = Setting(routers=4, own_view=True, report_s=1.0)
ASKING = replace(BLIND, ask_s=0.001)
BATON = "Baton"
_SETTINGS = {"fresh": FRESH, "blind": BLIND, "ask": ASKING}
_FIRST_SEED = 100
"""The policy was tuned on seeds below."""
_T95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36}

Maker = Callable[[View, int], Router]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is run."""

    rates: tuple[float, ...]
    seeds: int
    rules: tuple[str, ...]
    few_keys: tuple[int, ...]
    few_keys_rates: tuple[float, ...]
    few_keys_requests: int


FULL = Plan(
    (6.0, 6.5, 7.0), 5, tuple(routing_baselines.RULES), (16, 64, 256), (7.0, 9.0, 10.0, 10.5), 4000
)
QUICK = Plan((6.0,), 1, tuple(routing_baselines.RULES), (16, 256), (10.0,), 1500)


@dataclass(frozen=True, slots=True)
class Mean:
    """Scores of one rule over seeds."""

    attained: float
    interval: float
    """Half the 95 % confidence interval; 0 for a single seed."""
    scores: tuple[Score, ...]


def measured(arrivals: list[Arrival], plan: Plan) -> dict[str, Any]:
    """Every figure of the result that comes from simulation."""
    loads = {
        f"{rate:g}": _load(mooncake.at_rate(arrivals, rate), rate, plan) for rate in plan.rates
    }
    margins = _few_keys(plan)
    first = loads[f"{plan.rates[0]:g}"]
    return (
        first
        | {"few_keys_min_margin": min(margins.values()), "few_keys": margins}
        | {
            "by_load": loads,
            "seeds": plan.seeds,
        }
    )


def _load(arrivals: list[Arrival], rate: float, plan: Plan) -> dict[str, Any]:
    tables = {
        name: {rule: _mean(arrivals, setting, rule, plan.seeds) for rule in _rules(name, plan)}
        for name, setting in _SETTINGS.items()
    }
    for name, table in tables.items():
        _print(name, rate, table)
    rivals = {n: {r: m for r, m in t.items() if r != BATON} for n, t in tables.items()}
    best_fresh = max(rivals["fresh"].values(), key=lambda m: m.attained)
    best_blind = max(rivals["blind"], key=lambda r: rivals["blind"][r].attained)
    dualmaps = {r: m for r, m in rivals["blind"].items() if r.startswith("DualMap")}
    return {
        "r1_fresh": _rounded(tables["fresh"][BATON].attained),
        "r1_fresh_best_baseline": _rounded(best_fresh.attained),
        "r1_blind": _rounded(tables["blind"][BATON].attained),
        "dualmap_blind": _rounded(max(m.attained for m in dualmaps.values())),
        "dualmap_blind_each": {r: _rounded(m.attained) for r, m in dualmaps.items()},
        "r1_ask": _rounded(tables["ask"][BATON].attained),
        "best_blind_baseline": _rounded(rivals["blind"][best_blind].attained),
        "best_blind_baseline_name": best_blind,
        "intervals": {n: _rounded(t[BATON].interval) for n, t in tables.items()},
    }


def _rules(setting: str, plan: Plan) -> tuple[str, ...]:
    return (BATON,) if setting == "ask" else (BATON, *plan.rules)


def _mean(arrivals: Sequence[Arrival], setting: Setting, rule: str, seeds: int) -> Mean:
    scores = tuple(
        Run(replace(setting, seed=seed), arrivals, _maker(rule, setting, seed)).go()
        for seed in range(_FIRST_SEED, _FIRST_SEED + seeds)
    )
    attained = [s.attained for s in scores]
    interval = 0.0
    if seeds > 1:
        interval = _T95.get(seeds, 2.0) * statistics.stdev(attained) / math.sqrt(seeds)
    return Mean(statistics.mean(attained), interval, scores)


def _maker(rule: str, setting: Setting, seed: int) -> Maker:
    if rule == BATON:
        return desk.maker(seed, may_ask=setting.ask_s is not None)
    return routing_baselines.maker(routing_baselines.RULES[rule], seed)


def _print(setting: str, rate: float, table: dict[str, Mean]) -> None:
    print(f"\n{setting}, {rate:g} requests/s: attained, P50, P90, P99 in s, cached, imbalance")
    for rule, mean in sorted(table.items(), key=lambda item: -item[1].attained):
        columns = ("ttft_p50_s", "ttft_p90_s", "ttft_p99_s", "cached_share", "imbalance")
        rest = [statistics.mean(getattr(s, c) for s in mean.scores) for c in columns]
        figures = "{:7.2f}{:7.2f}{:8.2f}{:7.3f}{:7.3f}".format(*rest)
        print(f"  {rule:18} {mean.attained:.3f} +- {mean.interval:.3f} {figures}", flush=True)


def _few_keys(plan: Plan) -> dict[str, float]:
    """By how much Baton is better than power of two where a few prefixes are everywhere."""
    cases = itertools.product(("fresh", "blind"), plan.few_keys, plan.few_keys_rates)
    return {f"{n} {k} at {r:g}/s": _margin(plan, n, k, r) for n, k, r in cases}


def _margin(plan: Plan, name: str, count: int, rate: float) -> float:
    arrivals, seeds = few_keys(count, plan.few_keys_requests, per_s=rate), min(plan.seeds, 3)
    ours, theirs = (
        _mean(arrivals, _SETTINGS[name], rule, seeds).attained for rule in (BATON, "power of two")
    )
    print(f"{count} keys at {rate:g}/s, {name}: Baton {ours:.3f}, power of two {theirs:.3f}")
    return _rounded(ours - theirs)


def few_keys(count: int, requests: int, *, per_s: float, seed: int = 1) -> list[Arrival]:
    """Poisson arrivals over `count` shared prefixes of 8 blocks (Zipf), each with an own tail.

    The tails are 2,048 to 6,144 tokens: where every cache holds every prefix, 8 workers compute at
    most 12 requests/s.
    """
    chance = random.Random(seed)
    start = keys.salt("few keys")
    weights = [1 / (rank + 1) for rank in range(count)]
    prefixes = [keys.of_hashes(range(n * 8, n * 8 + 8), start) for n in range(count)]
    arrivals, now = [], 0.0
    for number in range(requests):
        now += chance.expovariate(per_s)
        prefix = chance.choices(prefixes, weights)[0]
        own = range(10**9 + number * 16, 10**9 + number * 16 + chance.randrange(4, 13))
        blocks = prefix + keys.of_hashes(own, prefix[-1])
        arrivals.append(Arrival(number, now, len(blocks) * BLOCK_TOKENS, blocks))
    return arrivals


def _rounded(value: float) -> float:
    return round(value, 4)
