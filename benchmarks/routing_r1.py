"""The rows that the policy must win: R1 at three loads, and few keys against power of two."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.routing_baselines import RULES
from benchmarks.routing_runs import ASKING, BATON, BLIND, FRESH, Load, Mean, Runs

SETTINGS = {"fresh": FRESH, "blind": BLIND, "ask": ASKING}
_FEW_KEYS_SEEDS_MAX = 3


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is run: which rivals by setting, and some of them at the first rate only."""

    rates: tuple[float, ...]
    seeds: int
    rules: Mapping[str, tuple[str, ...]]
    first_only: tuple[str, ...]
    few_keys: tuple[int, ...]
    few_keys_rates: tuple[float, ...]
    few_keys_requests: int


_DUALMAPS = tuple(rule for rule in RULES if rule.startswith("DualMap"))
_STRONG = ("Preble", "sticky 80 %", "min TTFT", "prefix tree", "single hash", *_DUALMAPS)
"""The others are never within three points of the best."""
_WEAK = tuple(rule for rule in RULES if rule not in _STRONG)
FULL = Plan(
    rates=(6.0, 6.5, 7.0),
    seeds=5,
    rules={"fresh": _STRONG, "blind": _STRONG},
    first_only=_WEAK,
    few_keys=(16, 64, 256),
    few_keys_rates=(7.0, 9.0, 10.0, 10.5),
    few_keys_requests=4000,
)
QUICK = Plan(
    rates=(6.0,),
    seeds=1,
    rules={
        "fresh": ("Preble", "sticky 80 %", "min TTFT"),
        "blind": ("Preble", "single hash", *_DUALMAPS),
    },
    first_only=(),
    few_keys=(16, 256),
    few_keys_rates=(10.0,),
    few_keys_requests=1500,
)
Table = Mapping[str, Mean]


def measured(runs: Runs, trace: Path, plan: Plan) -> dict[str, Any]:
    """The rows, by load; those of the first load also by their plain names."""
    loads = {f"{rate:g}": _load(runs, trace, rate, plan) for rate in plan.rates}
    margins = _few_keys(runs, plan)
    return loads[f"{plan.rates[0]:g}"] | {
        "few_keys_min_margin": min(margins.values()),
        "few_keys": margins,
        "by_load": loads,
        "seeds": plan.seeds,
    }


def _load(runs: Runs, trace: Path, rate: float, plan: Plan) -> dict[str, Any]:
    cases = [(name, rule) for name in SETTINGS for rule in _rules(name, rate, plan)]
    load = Load(rate, trace)
    means = runs.means([(rule, SETTINGS[name], load) for name, rule in cases], plan.seeds)
    tables: dict[str, dict[str, Mean]] = {name: {} for name in SETTINGS}
    for (name, rule), mean in zip(cases, means, strict=True):
        tables[name][rule] = mean
    for name, table in tables.items():
        _print(name, rate, table)
    return _row(tables)


def _row(tables: Mapping[str, Table]) -> dict[str, Any]:
    ours = {name: table[BATON] for name, table in tables.items()}
    best_fresh, best_blind = _best_rival(tables["fresh"]), _best_rival(tables["blind"])
    blind = tables["blind"]
    dualmaps = {r: round(m.attained, 4) for r, m in blind.items() if r.startswith("DualMap")}
    return {
        "r1_fresh": round(ours["fresh"].attained, 4),
        "r1_fresh_best_baseline": round(tables["fresh"][best_fresh].attained, 4),
        "r1_fresh_best_baseline_name": best_fresh,
        "r1_blind": round(ours["blind"].attained, 4),
        "dualmap_blind": max(dualmaps.values()),
        "dualmap_blind_each": dualmaps,
        "r1_ask": round(ours["ask"].attained, 4),
        "best_blind_baseline": round(blind[best_blind].attained, 4),
        "best_blind_baseline_name": best_blind,
        "intervals": {name: round(mean.interval, 4) for name, mean in ours.items()}
        | {
            "fresh_best_baseline": round(tables["fresh"][best_fresh].interval, 4),
            "blind_best_baseline": round(blind[best_blind].interval, 4),
        },
    }


def _best_rival(table: Table) -> str:
    return max((rule for rule in table if rule != BATON), key=lambda rule: table[rule].attained)


def _rules(setting: str, rate: float, plan: Plan) -> tuple[str, ...]:
    rivals = plan.rules.get(setting, ())
    weak = plan.first_only if rivals and rate == plan.rates[0] else ()
    return (BATON, *rivals, *weak)


def _print(setting: str, rate: float, table: Table) -> None:
    print(f"\n{setting}, {rate:g} requests/s: attained, P50, P90, P99 in s, cached, imbalance")
    for rule, mean in sorted(table.items(), key=lambda item: -item[1].attained):
        columns = ("ttft_p50_s", "ttft_p90_s", "ttft_p99_s", "cached_share", "imbalance")
        figures = "{:7.2f}{:7.2f}{:8.2f}{:7.3f}{:7.3f}".format(*map(mean.of, columns))
        print(f"  {rule:18} {mean.attained:.3f} +- {mean.interval:.3f} {figures}", flush=True)


def _few_keys(runs: Runs, plan: Plan) -> dict[str, float]:
    """By how much Baton is better than power of two where a few prefixes are everywhere."""
    cases = list(itertools.product(("fresh", "blind"), plan.few_keys, plan.few_keys_rates))
    rivals = [
        (rule, SETTINGS[name], Load(rate, keys=count, requests=plan.few_keys_requests))
        for name, count, rate in cases
        for rule in (BATON, "power of two")
    ]
    means = iter(runs.means(rivals, min(plan.seeds, _FEW_KEYS_SEEDS_MAX)))
    margins = {}
    for (name, count, rate), ours, theirs in zip(cases, means, means, strict=True):
        figures = f"Baton {ours.attained:.3f}, power of two {theirs.attained:.3f}"
        print(f"{count} keys at {rate:g}/s, {name}: {figures}", flush=True)
        margins[f"{name} {count} at {rate:g}/s"] = round(ours.attained - theirs.attained, 4)
    return margins
