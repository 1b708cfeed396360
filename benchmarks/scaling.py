"""Baton's scaling law against rival laws, in the simulator, over made-up and recorded loads.

usage: python -m benchmarks.scaling [--quick] [--trace FILE] [--json FILE] [--table FILE]
                                    [--plots FOLDER] [--processes N]

The ramp of llm-d's published benchmark (`scaling_world`), evenly spaced and at random; the Azure
conversation trace; a burst of long prompts; a shift between reading and writing; lost machines;
constant loads; start-up delays from 15 to 300 s. Every rival law (`scaling_laws`) is tuned over its
own target on the ramp, which gives a curve of attainment over mean workers; equal cost is read from
that curve at Baton's mean workers (`scaling_report.at_cost`). Baton runs with its default settings.
Means over seeds; the default was chosen on others. Laws that are far off on the ramp, and those
that always say the same, run with one seed. A line on stderr for each run, and in the last line
one JSON object. `--quick` runs the ramp with one or two targets per rival and one seed of each,
Azure, and one constant load.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from baton.settings import ScalingSettings
from benchmarks import scaling_report
from benchmarks.outputs import add_outputs, check_outputs, command
from benchmarks.routing_runs import Runs, seeds
from benchmarks.scaling_laws import RIVALS
from benchmarks.scaling_report import Point
from benchmarks.scaling_runs import BATON, Job, Score, mean, run
from benchmarks.scaling_world import SCENARIOS, TRACE, azure_of
from simulator.traces.request import TraceError

_AIM = ScalingSettings().headroom
_BATON_AIMS = (0.15, _AIM, 0.3, 0.4)
_STARTUP_S = 60.0
_STARTUPS_S = (15.0, 30.0, 120.0, 180.0, 240.0, 300.0)
_SEEDS = 3
_RANDOM_SEEDS = 5
"""Where arrivals are random."""
_NEAR = (BATON, "Dynamo planner", "HeteroScale")
"""Laws that are so near to each other that one seed does not tell which is better."""
_QUICK_AIMS = {
    "HeteroScale": (0.6, 0.7),
    "Dynamo planner": (0.65, 0.7),
    "llm-d, one pool": (0.55,),
    "llm-d, two pools": (0.8,),
    "queue length (KEDA)": (60.0,),
    "Ray Serve": (60.0,),
}
_ELSEWHERE = {
    "static peak": 1.0,
    "queue length (KEDA)": 50.0,
    "Ray Serve": 50.0,
    "llm-d, two pools": 0.4,
    "Dynamo planner": 0.7,
    "HeteroScale": 0.6,
}
"""Targets of the rivals outside the ramp: on it they cost about what Baton does, or more."""
_SWEPT = "Dynamo planner"
_OTHERS = ("random ramp", "azure", "burst", "shift", "lost", "constant 4")
_CONSTANT = ("constant 3", "constant 4", "constant 5", "constant 6")


@dataclass(frozen=True, slots=True)
class Turn:
    """One run among all of them."""

    job: Job
    number: int
    total: int


@dataclass(frozen=True, slots=True)
class Case:
    """One point to find: a law in a scenario, over so many seeds."""

    scenario: str
    law: str
    aim: float
    startup_s: float = _STARTUP_S
    seeds: int = _SEEDS


def main(argv: Sequence[str]) -> int:
    """Prints tables and one line of JSON; 2 and one line when a file cannot be used."""
    chosen = _arguments(argv)
    try:
        azure_of(chosen.trace)
        check_outputs(chosen)
    except (TraceError, OSError, ModuleNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    cases = list(_quick() if chosen.quick else _full())
    points, cpu_s = measured(Runs(chosen.processes), cases, chosen.trace)
    result = summed(points) | {"cpu_s": round(cpu_s)}
    _show(points, chosen)
    line = json.dumps(result)
    if chosen.json is not None:
        whole = result | {"points": scaling_report.as_json(points)}
        chosen.json.write_text(json.dumps(whole) + "\n", encoding="utf-8")
    print(line)
    return 0


def measured(runs: Runs, cases: Sequence[Case], trace: Path) -> tuple[list[Point], float]:
    """Means over seeds, in the order of the cases, and the CPU seconds of all runs."""
    jobs = [
        Job(c.law, c.scenario, seed, c.aim, c.startup_s, trace)
        for c in cases
        for seed in seeds(c.seeds)
    ]
    turns = [Turn(job, n, len(jobs)) for n, job in enumerate(jobs, 1)]
    found = runs.every(_done, turns)
    scores = (score for score, _ in found)
    points = [
        Point(c.scenario, c.law, c.aim, c.startup_s, mean([next(scores) for _ in range(c.seeds)]))
        for c in cases
    ]
    return points, sum(cpu_s for _, cpu_s in found)


def _done(turn: Turn) -> tuple[Score, float]:
    """The run, which says so, and its CPU seconds."""
    began_s, job = time.process_time(), turn.job
    score = run(job)
    cpu_s = time.process_time() - began_s
    what = f"{job.scenario}, {job.law} {job.aim:g}, start-up {job.startup_s:g} s, seed {job.seed}"
    came_to = f"{score.attained:.4f} at {score.workers:.2f} workers"
    line = f"{turn.number}/{turn.total} {what}: {came_to}, {cpu_s:.1f} s\n"
    sys.stderr.write(line)
    return score, cpu_s


def summed(points: Sequence[Point]) -> dict[str, Any]:
    """The figures of the last line."""
    ours = {
        p.scenario: p.score
        for p in points
        if (p.law, p.aim, p.startup_s) == (BATON, _AIM, _STARTUP_S)
    }
    ramp = [p for p in points if p.scenario == "ramp" and p.startup_s == _STARTUP_S]
    ramp = [p for p in ramp if p.law != BATON or p.aim == _AIM]
    rivals = scaling_report.equal_cost(ramp)
    law, attained = scaling_report.best(rivals)
    peak = sum(SCENARIOS["azure"].most)
    constant = [score.per_hour for name, score in ours.items() if name in _CONSTANT]
    return {
        "ramp_attainment": round(ours["ramp"].attained, 4),
        "ramp_mean_workers": round(ours["ramp"].workers, 3),
        "best_rival": {"law": law, "attainment_at_equal_cost": round(attained, 4)},
        "azure_gpu_hours_vs_peak": round(ours["azure"].workers / peak, 3),
        "azure_attainment": round(ours["azure"].attained, 4),
        "dropped": sum(score.dropped for score in ours.values()),
        "actions_per_hour": round(max(constant), 2),
        "rivals_at_equal_cost": {n: None if a is None else round(a, 4) for n, a in rivals.items()},
        "by_startup": {
            f"{p.startup_s:g}": round(p.score.attained, 4)
            for p in points
            if (p.scenario, p.law, p.aim) == ("ramp", BATON, _AIM)
        },
    }


def _quick() -> Iterator[Case]:
    # The longest first, so that no process waits for it in the end.
    yield Case("constant 4", BATON, _AIM, seeds=1)
    yield Case("azure", BATON, _AIM, seeds=1)
    yield Case("ramp", BATON, _AIM)
    for law, aims in _QUICK_AIMS.items():
        for aim in aims:
            yield Case("ramp", law, aim, seeds=1)


def _full() -> Iterator[Case]:
    for name in _CONSTANT:
        yield Case(name, BATON, _AIM, seeds=_RANDOM_SEEDS)
    for aim in _BATON_AIMS:
        yield Case("ramp", BATON, aim)
    for law, rival in RIVALS.items():
        for aim in rival.aims:
            yield Case("ramp", law, aim, seeds=_seeds(law, "ramp"))
    for startup_s in _STARTUPS_S:
        yield Case("ramp", BATON, _AIM, startup_s)
        yield Case("ramp", _SWEPT, _ELSEWHERE[_SWEPT], startup_s, seeds=1)
    for name in _OTHERS:
        if name not in _CONSTANT:
            yield Case(name, BATON, _AIM, seeds=_seeds(BATON, name))
        for law, aim in _ELSEWHERE.items():
            yield Case(name, law, aim, seeds=_seeds(law, name))


def _seeds(law: str, scenario: str) -> int:
    """The recording is hardly another with another seed, and an hour of constant load is long."""
    if law not in _NEAR or scenario in _CONSTANT or (scenario, law == BATON) == ("azure", False):
        return 1
    return _RANDOM_SEEDS if scenario == "random ramp" else _SEEDS


def _show(points: Sequence[Point], chosen: argparse.Namespace) -> None:
    tables = scaling_report.table(points)
    print(tables)
    if chosen.table is not None:
        chosen.table.write_text(tables, encoding="utf-8")
    if chosen.plots is not None:
        scaling_report.plot(points, chosen.plots)


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = command(__doc__, "a short run: under 50 seconds")
    parser.add_argument("--trace", type=Path, default=TRACE, help="in Azure's format")
    add_outputs(parser)
    return parser.parse_args(argv)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
