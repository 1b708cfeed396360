"""One run behind `benchmarks.scaling`: a law, a scenario, a seed. A frozen value that any process
may compute."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from baton.settings import ScalingSettings, SloSettings
from benchmarks.scaling_laws import RIVALS, Counts, Driven, Scene
from benchmarks.scaling_router import Patient
from benchmarks.scaling_world import TRACE, Scenario, scenario_of
from cluster.scaling.rules import Rules
from simulator.cluster_model import Cluster
from simulator.job import End
from simulator.plugs import Controller
from simulator.results import Outcome
from simulator.rules import ClusterRules
from simulator.scaler import Scaler, Shape

BATON = "Baton"
_WINDOW_S = 30.0
"""Over which Baton measures; the rivals have their own."""
_GPUS = 1


@dataclass(frozen=True, slots=True)
class Job:
    """One run. `aim` is what the law is tuned by: for Baton its headroom."""

    law: str
    scenario: str
    seed: int
    aim: float
    startup_s: float = 60.0
    recording: Path = TRACE


@dataclass(frozen=True, slots=True)
class Score:
    """What a run came to."""

    attained: float
    workers: float
    """Mean over the run, those that start or drain included."""
    gpu_hours: float
    per_hour: float
    """Workers started, removed or moved, per hour of the scored part."""
    dropped: int
    series: tuple[tuple[float, int, int], ...] = ()
    """(time, prefill, decode): what was wanted, whenever it changed."""


def run(job: Job) -> Score:
    """The run itself."""
    scenario = scenario_of(job.scenario)
    whole = job.law in RIVALS and RIVALS[job.law].whole
    rules = _rules(job, scenario, whole=whole)
    controller = _baton(job, scenario, rules) if job.law == BATON else _rival(job, scenario, rules)
    outcome = Cluster(
        rules, lambda _: Patient(scenario.answer_tokens, whole=whole), controller
    ).run(scenario.load(job.seed, job.recording))
    return _score(outcome, scenario)


def mean(scores: Sequence[Score]) -> Score:
    """Over seeds; dropped requests are added up, the series is that of the first."""
    names = ("attained", "workers", "gpu_hours", "per_hour")
    means = {name: statistics.fmean(getattr(score, name) for score in scores) for name in names}
    dropped = sum(score.dropped for score in scores)
    return Score(**means, dropped=dropped, series=scores[0].series)


def _rules(job: Job, scenario: Scenario, *, whole: bool) -> ClusterRules:
    every_s, window_s = 5.0, _WINDOW_S
    if job.law != BATON:
        every_s, window_s = RIVALS[job.law].every_s, RIVALS[job.law].window_s
    start = scenario.most if job.law == "static peak" else scenario.start
    return ClusterRules(
        scenario.times,
        0 if whole else start.prefill,
        sum(start) if whole else start.decode,
        engine=scenario.engine,
        startup_s=job.startup_s,
        role_change_s=2.0,
        control_every_s=every_s,
        window_s=window_s,
        gpus_per_worker=_GPUS,
        seed=job.seed,
        faults=() if whole else scenario.faults,
    )


def _baton(job: Job, scenario: Scenario, rules: ClusterRules) -> Scaler:
    least, most = scenario.least, scenario.most
    settings = ScalingSettings(
        mode="auto",
        headroom=job.aim,
        prefill_min_workers=least.prefill,
        prefill_max_workers=sum(most),
        decode_min_workers=least.decode,
        decode_max_workers=sum(most),
        gpu_budget=sum(most) * _GPUS,
        startup_s=job.startup_s,
    )
    slo = SloSettings(
        ttft_s=scenario.slo.ttft_s, ttft_s_per_1000_tokens=0.0, tpot_s=scenario.slo.tpot_s
    )
    return Scaler(rules, Rules(settings, slo, _GPUS, _GPUS))


def _rival(job: Job, scenario: Scenario, rules: ClusterRules) -> Controller:
    rival = RIVALS[job.law]
    least, most = scenario.least, scenario.most
    if rival.whole:
        least, most = Counts(0, sum(least)), Counts(0, sum(most))
    prefill, decode = _capacities(scenario, rules)
    scene = Scene(scenario.slo, least, most, prefill, decode)
    return Driven(rival.make(scene, job.aim))


def _capacities(scenario: Scenario, rules: ClusterRules) -> tuple[float, float]:
    """What a profile says of one worker, for the planner that wants one."""
    slo = SloSettings(ttft_s=scenario.slo.ttft_s, tpot_s=scenario.slo.tpot_s)
    shape = Shape(scenario.prompt_tokens, 1.0, scenario.answer_tokens)
    return Scaler(rules, Rules(slo=slo)).capacities(shape)


def _score(outcome: Outcome, scenario: Scenario) -> Score:
    summary = outcome.summary(scenario.slo)
    ended = sum(record.end is End.FINISHED for record in outcome.records)
    changes = _changes(outcome, scenario.settled_s)
    scored_h = (outcome.seconds - scenario.settled_s) / 3600
    return Score(
        summary.attained,
        outcome.mean_workers,
        outcome.gpu_hours,
        changes / scored_h,
        len(outcome.records) - ended,
        tuple((at_s, w.prefill, w.decode) for at_s, w in outcome.decisions),
    )


def _changes(outcome: Outcome, after_s: float) -> int:
    """Workers that were asked for or sent away after the first seconds of a run."""
    counts = [(at_s, (w.prefill, w.decode)) for at_s, w in outcome.decisions]
    pairs = itertools.pairwise(counts)
    return sum(
        abs(after[0] - before[0]) + abs(after[1] - before[1])
        for (_, before), (at_s, after) in pairs
        if at_s >= after_s
    )
