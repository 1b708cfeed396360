"""One run behind `benchmarks.routing`, and many at a time: a rule, what it knows, and the load.

Every run is a frozen value: any process may do it, and none is done twice.
"""

from __future__ import annotations

import math
import multiprocessing
import random
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from baton import prefix_keys as keys
from benchmarks import routing_baselines
from simulator import desk
from simulator.reference import Run, Score
from simulator.traces.formats import read_mooncake
from simulator.traces.request import BLOCK_TOKENS, Trace, TraceError
from simulator.traces.shape import at_load, chained, cut_inputs, first
from simulator.words import Arrival, Knowledge, Router, Setting, arrivals

FRESH = Setting()
BLIND = Setting(routers=4, own_view=True, report_s=1.0)
ASKING = replace(BLIND, ask_s=0.001)
BATON = "Baton"
_FIRST_SEED = 100
"""The policy was tuned on seeds below."""
_CUT_TOKENS = 20_480
"""As in DualMap's evaluation (arXiv 2602.06502)."""
_T95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36}

Maker = Callable[[Knowledge, int], Router]
_Task = TypeVar("_Task")
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Load:
    """Requests at a mean rate: of a trace, or if `keys` is given of so many shared prefixes."""

    per_s: float
    trace: Path | None = None
    keys: int = 0
    requests: int = 1_000_000


@dataclass(frozen=True, slots=True)
class Job:
    """One run. The setting's seed is replaced."""

    rule: str
    setting: Setting
    load: Load
    seed: int


@dataclass(frozen=True, slots=True)
class Mean:
    """Scores of one rule over seeds."""

    attained: float
    interval: float
    """Half the 95 % confidence interval; 0 for a single seed."""
    scores: tuple[Score, ...]

    def of(self, name: str) -> float:
        """The mean of another figure of `Score`."""
        return statistics.mean([float(getattr(score, name)) for score in self.scores])


class Runs:
    """Computes jobs in so many processes, and remembers."""

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._known: dict[Job, Score] = {}

    def means(self, cases: Iterable[tuple[str, Setting, Load]], seeds: int) -> list[Mean]:
        """One mean per case (rule, setting, load), in their order."""
        jobs = [
            [Job(*case, seed) for seed in range(_FIRST_SEED, _FIRST_SEED + seeds)] for case in cases
        ]
        missing = list({job: None for row in jobs for job in row if job not in self._known})
        self._known.update(zip(missing, self.every(score, missing), strict=True))
        return [mean([self._known[job] for job in row]) for row in jobs]

    def every(self, act: Callable[[_Task], _Result], tasks: Sequence[_Task]) -> list[_Result]:
        """What `act` makes of each task, in their order."""
        if self._processes < 2 or len(tasks) < 2:
            return [act(task) for task in tasks]
        with multiprocessing.Pool(min(self._processes, len(tasks))) as pool:
            return pool.map(act, tasks, chunksize=1)


def seeds(count: int) -> range:
    """Seeds that the policy was not tuned on."""
    return range(_FIRST_SEED, _FIRST_SEED + count)


def mean(scores: Sequence[Score]) -> Mean:
    """Over seeds, with Student's interval."""
    attained = [s.attained for s in scores]
    return Mean(statistics.mean(attained), interval(attained), tuple(scores))


def interval(values: Sequence[float]) -> float:
    """Half the 95 % confidence interval of a mean; 0 for a single value."""
    if len(values) < 2:
        return 0.0
    return _T95.get(len(values), 2.0) * statistics.stdev(values) / math.sqrt(len(values))


def score(job: Job) -> Score:
    """The run itself."""
    setting = replace(job.setting, seed=job.seed)
    return Run(setting, requests_of(job.load), make(job.rule, setting, job.seed)).go()


def make(rule: str, setting: Setting, seed: int) -> Maker:
    """The routers of a run."""
    if rule == BATON:
        return desk.maker(seed, may_ask=setting.ask_s is not None)
    return routing_baselines.maker(routing_baselines.RULES[rule], seed)


@lru_cache(maxsize=8)
def requests_of(load: Load) -> list[Arrival]:
    """The requests of a load. Raises TraceError."""
    if load.trace is None:
        return few_keys(load.keys, load.requests, per_s=load.per_s)
    trace = first(cut_inputs(trace_of(load.trace), _CUT_TOKENS), load.requests)
    return arrivals(at_load(trace, load.per_s))


@lru_cache(maxsize=2)
def trace_of(path: Path) -> Trace:
    """A trace that can be used here. Raises TraceError."""
    trace = chained(read_mooncake(path))
    if len(trace.requests) <= FRESH.unscored:
        few = f"{len(trace.requests)} requests; the first {FRESH.unscored} warm the caches up"
        raise TraceError(path, 0, few)
    if not trace.seconds:
        raise TraceError(path, 0, "all requests come at once: there is no load to change")
    return trace


def few_keys(count: int, requests: int, *, per_s: float, seed: int = 1) -> list[Arrival]:
    """Poisson arrivals over `count` shared prefixes of 8 blocks (Zipf), each with an own tail.

    The tails are 2,048 to 6,144 tokens: where every cache holds every prefix, 8 workers compute at
    most 12 requests/s.
    """
    chance = random.Random(seed)
    start = keys.salt("few keys")
    weights = [1 / (rank + 1) for rank in range(count)]
    prefixes = [keys.of_hashes(range(n * 8, n * 8 + 8), start) for n in range(count)]
    made, now = [], 0.0
    for number in range(requests):
        now += chance.expovariate(per_s)
        prefix = chance.choices(prefixes, weights)[0]
        own = range(10**9 + number * 16, 10**9 + number * 16 + chance.randrange(4, 13))
        blocks = prefix + keys.of_hashes(own, prefix[-1])
        made.append(Arrival(number, now, len(blocks) * BLOCK_TOKENS, blocks))
    return made
