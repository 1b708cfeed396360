"""How the comparison changes with load, routers, freshness, workers, keys and membership.

All in the reference setting; each point is a mean over ring seeds. Runs after the first 3,000
requests of the trace say no more about the order of the rules, so sweeps stop there.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from baton import prefix_keys as keys
from benchmarks.routing_runs import ASKING, BATON, BLIND, FRESH, Load, Mean, Runs
from router.policy import rings
from simulator.words import Setting

_RIVALS = ("DualMap", "Preble", "min TTFT", "sticky 80 %")
_FEW = ("DualMap", "min TTFT")
_REQUESTS = 3000
_LONG_S = 1e9
_MOVED_KEYS = 20_000

_VIEWS: dict[str, dict[str, object]] = {
    "fresh": {},
    "1 s stale": {"report_s": 1.0},
    "3 s stale": {"report_s": 3.0},
    "own caches, loads 1 s": {"report_s": 1.0, "own_view": True},
    "own dispatches only": {"report_s": _LONG_S, "own_view": True},
}
"""What a router knows; where caches are not its own, all routers see them as they are."""
_ALONE = ("fresh", "own dispatches only")
"""Views that differ for a router that sends alone."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The grid. Rates are per 8 workers."""

    seeds: int = 5
    rates: tuple[float, ...] = (5.0, 6.0, 6.5, 7.0, 7.5)
    routers: tuple[int, ...] = (1, 4, 8)
    workers: tuple[int, ...] = (4, 16, 64, 128)
    keys: tuple[int, ...] = (16, 64, 256, 1000, 10_000)


@dataclass(frozen=True, slots=True)
class Point:
    """One rule at one place of one sweep."""

    sweep: str
    series: str
    x: str
    rule: str
    mean: Mean


@dataclass(frozen=True, slots=True)
class _Case:
    sweep: str
    series: str
    x: str
    rule: str
    setting: Setting
    load: Load


def measured(runs: Runs, trace: Path, plan: Plan) -> list[Point]:
    """Every point of every sweep."""
    cases = [
        *_by_load(trace, plan),
        *_by_view(trace, plan),
        *_by_workers(trace, plan),
        *_by_keys(plan),
        *_by_membership(trace),
    ]
    means = runs.means([(c.rule, c.setting, c.load) for c in cases], plan.seeds)
    return [
        Point(c.sweep, c.series, c.x, c.rule, mean) for c, mean in zip(cases, means, strict=True)
    ]


def _by_load(trace: Path, plan: Plan) -> Iterator[_Case]:
    settings = {"one fresh router": FRESH, "four blind routers": BLIND}
    for (series, setting), rate in itertools.product(settings.items(), plan.rates):
        for rule in (BATON, *_RIVALS):
            yield _Case("load", series, f"{rate:g}", rule, setting, Load(rate, trace))
    for rate in plan.rates:
        yield _Case("load", "four asking routers", f"{rate:g}", BATON, ASKING, Load(rate, trace))


def _by_view(trace: Path, plan: Plan) -> Iterator[_Case]:
    load = Load(6.0, trace, requests=_REQUESTS)
    for routers, (view, knows) in itertools.product(plan.routers, _VIEWS.items()):
        if routers == 1 and view not in _ALONE:
            # It knows at once what it sent itself, and nobody else sends.
            continue
        setting = replace(FRESH, routers=routers, **knows)  # type: ignore[arg-type]
        for rule in (BATON, "Preble", *_FEW):
            yield _Case("view", f"{routers} router(s)", view, rule, setting, load)


def _by_workers(trace: Path, plan: Plan) -> Iterator[_Case]:
    settings = {"one fresh router": FRESH, "four blind routers": BLIND}
    for (series, basis), workers in itertools.product(settings.items(), plan.workers):
        setting = replace(basis, workers=workers)
        load = Load(6.0 * workers / 8, trace, requests=_REQUESTS)
        for rule in (BATON, *_FEW):
            yield _Case("workers", series, str(workers), rule, setting, load)


def _by_keys(plan: Plan) -> Iterator[_Case]:
    settings = {"one fresh router": FRESH, "four blind routers": BLIND}
    for (series, setting), count in itertools.product(settings.items(), plan.keys):
        # The more keys, the fewer hits, the less can be served.
        load = Load(9.0 if count <= 256 else 6.0, keys=count, requests=_REQUESTS)
        for rule in (BATON, "DualMap", "power of two"):
            yield _Case("keys", series, str(count), rule, setting, load)


def _by_membership(trace: Path) -> Iterator[_Case]:
    """One of eight workers is away for the middle third of the run."""
    load = Load(5.0, trace, requests=_REQUESTS)
    third_s = _REQUESTS / load.per_s / 3
    for series, basis in {"one fresh router": FRESH, "four blind routers": BLIND}.items():
        for x, away in (
            ("eight stay", ()),
            ("one leaves and returns", ((3, third_s, 2 * third_s),)),
        ):
            setting = replace(basis, away=away)
            for rule in (BATON, *_FEW):
                yield _Case("membership", series, x, rule, setting, load)


def moved_keys(workers: int, seeds: Sequence[int]) -> float:
    """The largest share of keys whose homes change when a worker joins, in units of 1/n.

    Each key has two homes; a home that changed counts half. Joining and leaving are one change
    seen from two sides.
    """
    names = [f"worker-{n:03}" for n in range(workers + 1)]
    sample = keys.of_hashes(range(_MOVED_KEYS), keys.salt("moved keys"))
    worst = 0.0
    for seed in seeds:
        before, after = (rings.build(names[:n], seed=seed) for n in (workers, workers + 1))
        moved = 0.0
        for key in sample:
            homes = set(before.candidates(key))
            moved += len(homes - set(after.candidates(key))) / len(homes)
        worst = max(worst, moved / len(sample) * workers)
    return worst
