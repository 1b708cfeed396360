"""Setting R2: the highest load that a whole cluster of H200 engines serves well, by routing rule.

Eight prefill workers as in R1 and eight decode workers, so that prefill decides. Times are fitted
to a measured profile; chunked prefill, prefix caches, KV memory and transfers are as in
`simulator.cluster_model`. Served well means that nine requests in ten get TTFT within 2 s and TPOT
within 40 ms (DistServe's goodput, arXiv 2401.09670). Prompts are as recorded: some percent of them
are too long for 2 s on an idle engine. All rules share the choice of the decode worker; Baton also
decides whether a request is divided ("Baton") or always divides like the others ("Baton, divided").
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from benchmarks import routing_baselines
from benchmarks.routing_runs import BATON, Runs, interval, seeds, trace_of
from router.policy.division import Promise
from simulator import desk
from simulator.bridge import Bridge
from simulator.cluster_model import Cluster
from simulator.engine_model.fit import fit
from simulator.engine_model.profile import load_profile
from simulator.engine_model.times import EngineTimes
from simulator.pairing import Pairing, PairingRules
from simulator.results import Slo, Summary, highest_load
from simulator.rules import FRESH, ClusterRules, Freshness
from simulator.traces.shape import at_load, first

SLO = Slo(ttft_s=2.0, tpot_s=0.040)
DIVIDED = "Baton, divided"
ASKING = "Baton, asking"
_OWN = (BATON, DIVIDED, ASKING)
_PREFILL, _DECODE = 8, 8
_UNSCORED = 500
_SETTINGS = {"fresh": (1, FRESH), "stale": (4, Freshness(every_s=1.0))}
"""Routers, and what they know."""
_NEAR = 16.0
RULES = {
    "round robin": 0.3,
    "least work": 0.85,
    "power of two": 0.6,
    "single hash": 0.3,
    "bounded load 1.25": 0.5,
    "prefix tree": 0.9,
    "min TTFT": 1.0,
    "sticky 80 %": 1.0,
    "Preble": 1.0,
    "DualMap": 0.8,
    "DualMap+queue": 0.8,
    "Dynamo": 1.0,
}
"""The rivals, and where the search for the load begins, in parts of `_NEAR`: it costs time only."""


@dataclass(frozen=True, slots=True)
class World:
    """The files behind the setting, and how many requests of the trace are replayed."""

    profile: Path
    trace: Path
    requests: int = 2000
    seeds: int = 2


@dataclass(frozen=True, slots=True)
class Case:
    """One search for the highest load."""

    rule: str
    setting: str
    world: World


@dataclass(frozen=True, slots=True)
class Goodput:
    """The highest load in requests/s, and what was seen at each load that was tried."""

    per_s: float
    tried: tuple[tuple[float, float, float], ...]
    """(load, mean attainment over seeds, half its 95 % interval)."""


def measured(runs: Runs, world: World) -> dict[str, Any]:
    """Goodput of every rule in both settings, printed as a table."""
    cases = [Case(r, s, world) for s in _SETTINGS for r in (*_OWN, *RULES) if _exists(r, s)]
    found = dict(zip(cases, runs.every(goodput, cases), strict=True))
    result: dict[str, Any] = {
        "r2_tried": {f"{c.rule}, {c.setting}": g.tried for c, g in found.items()}
    }
    for setting in _SETTINGS:
        table = {case.rule: g.per_s for case, g in found.items() if case.setting == setting}
        rivals = {rule: per_s for rule, per_s in table.items() if rule not in _OWN}
        best = max(rivals, key=lambda rule: rivals[rule])
        result |= {f"r2_{setting}": table[BATON], f"r2_{setting}_best_baseline": rivals[best]}
        result |= {f"r2_{setting}_best_baseline_name": best, f"r2_{setting}_each": table}
        _print(setting, table)
    return result


def goodput(case: Case) -> Goodput:
    """Bisection, every load under the same seeds."""
    tried = []

    def attained(load: float) -> float:
        each = [summary(case, load, seed).attained for seed in seeds(case.world.seeds)]
        tried.append((round(load, 2), round(statistics.mean(each), 4), round(interval(each), 4)))
        return statistics.mean(each)

    start = _NEAR * RULES.get(case.rule, 1.0)
    per_s = highest_load(attained, start, precision=0.025, stride=1.25)
    return Goodput(round(per_s, 2), tuple(tried))


def summary(case: Case, load: float, seed: int) -> Summary:
    """One run of the cluster."""
    world = case.world
    routers, freshness = _SETTINGS[case.setting]
    rules = ClusterRules(
        times_of(world.profile), _PREFILL, _DECODE, routers=routers, freshness=freshness, seed=seed
    )
    trace = at_load(first(trace_of(world.trace), world.requests), load)
    cluster = Cluster(rules, lambda number: _router(case.rule, number, rules, seed))
    return cluster.run(trace).summary(SLO, _UNSCORED)


@lru_cache(maxsize=2)
def times_of(profile: Path) -> EngineTimes:
    """The engine of a profile. Raises ProfileError."""
    return fit(load_profile(profile)).times


def _router(rule: str, number: int, rules: ClusterRules, seed: int) -> Bridge:
    pairing = Pairing(rules, PairingRules(Promise(SLO.ttft_s, SLO.tpot_s)))
    if rule in _OWN:
        make = desk.maker(seed, may_ask=rule == ASKING)
        divides = rule != DIVIDED
        return Bridge(make, number, rules, pairing, slo_s=SLO.ttft_s, divides=divides)
    rival = routing_baselines.maker(routing_baselines.RULES[rule], seed)
    return Bridge(rival, number, rules, pairing, slo_s=SLO.ttft_s)


def _exists(rule: str, setting: str) -> bool:
    """Nobody asks who sees everything."""
    return rule != ASKING or setting != "fresh"


def _print(setting: str, table: dict[str, float]) -> None:
    routers = _SETTINGS[setting][0]
    print(f"\nR2, {routers} {setting} router(s): requests/s with 90 % within TTFT 2 s, TPOT 40 ms")
    for rule, per_s in sorted(table.items(), key=lambda item: -item[1]):
        print(f"  {rule:18} {per_s:6.2f}", flush=True)
