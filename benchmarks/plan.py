"""Whether the planner's predictions come true: real runs on this machine beside their replays.

usage: python -m benchmarks.plan [--quick] [--json FILE] [--trace FILE --profile FILE]
Three real workers with the demo model share this machine's cores. One prefill and one decode worker
are measured alone, and under one load for what that changes; from that the planner predicts the
ninetieth percentiles of TTFT and TPOT of two splits of the three (1P2D, 2P1D) under three loads,
and the loads are run, in rounds. The speed of such a machine changes within seconds. All that a
prediction learns of the time in which its load is run is how much processor time the engines took
there for their work, and how long the machine under this one let busy cores wait (`stretch`, how
many times its processor time anything took): everything takes so many times as long.
The errors are the means over the six cells; the worst is beside them. The ranking is right if no
pair of splits whose measured values differ by more than a tenth is predicted the other way round.
With a trace in a known format and a profile, aggregated and disaggregated clusters for that trace
are compared over loads, too. The last line is one JSON object; the exit status is 0 only if both
errors are within 20 %, the ranking is right, and nothing is left of the run. With --quick a cell
has two rounds of 5 to 40 requests, and a hiccup of the machine decides about a ninetieth
percentile.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import multiprocessing.resource_tracker
import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from baton.settings import extend_process_environ
from benchmarks import leftovers, nodes
from benchmarks.faults_result import say, seconds
from benchmarks.outputs import command, tell
from benchmarks.plan_model import SPLITS, Machine, Seen, made, predicted
from benchmarks.plan_world import World, settings
from deploy.planning import report
from simulator.planning.hardware import load_hardware
from simulator.planning.planner import Question, plan
from simulator.planning.terms import Promises
from simulator.traces.detect import read_any
from simulator.traces.shape import chained

LEVELS = (0.25, 0.45, 0.65)
"""Shares of the cores that the work of a load would keep busy."""
WITHIN = 0.2
_APART = 0.1
_KNOWN_LEVEL, _KNOWN_SEED = 0.35, 99
_FAVOUR = "-18"


@dataclass(frozen=True, slots=True)
class Shape:
    """How much is measured: rounds of the profile, and of the loads and how long each is."""

    profiles: int
    rounds: int
    load_s: float


QUICK, FULL = Shape(1, 2, 3.0), Shape(5, 4, 20.0)


@dataclass(frozen=True, slots=True)
class Cell:
    """One split under one load."""

    split: str
    level: float
    rounds: list[tuple[Seen, Seen]] = field(default_factory=list)
    """Predicted, measured."""
    stretches: list[float] = field(default_factory=list)
    """How many times its processor time anything took, by round."""

    def p90_s(self, what: str) -> tuple[float, float]:
        """Of `ttft_s` or `tpot_s`, predicted and measured: medians over rounds, because one hiccup
        of a shared machine makes a tenth of a round late."""
        both = [[seen.p90_s(what) for seen in each] for each in self.rounds]
        predicted, measured = (statistics.median(values) for values in zip(*both, strict=True))
        return predicted, measured

    def error(self, what: str) -> float:
        """Of the prediction, relative to what was measured."""
        predicted, measured = self.p90_s(what)
        return abs(predicted / measured - 1)

    @property
    def requests(self) -> int:
        """All that were measured."""
        return sum(len(measured.ttft_s) for _, measured in self.rounds)

    def as_json(self) -> dict[str, Any]:
        """Ninetieth percentiles in milliseconds: predicted, measured."""
        pairs = {
            name: [round(value * 1e3, 1) for value in self.p90_s(what)]
            for name, what in (("ttft_ms", "ttft_s"), ("tpot_ms", "tpot_s"))
        }
        stretch = round(statistics.median(self.stretches), 2)
        return {"split": self.split, "level": self.level, **pairs, "stretch": stretch}

    def __str__(self) -> str:
        told = self.as_json()
        return (
            f"{self.split} at {self.level:.0%}, {self.requests} requests: p90 of TTFT "
            f"{told['ttft_ms'][0]} ms predicted, {told['ttft_ms'][1]} measured; of TPOT "
            f"{told['tpot_ms'][0]} and {told['tpot_ms'][1]}"
        )


async def measure(started: nodes.Nodes, shape: Shape) -> tuple[list[Cell], str]:
    """All cells, and how well the profile is described."""
    cells: dict[tuple[str, float], Cell] = {}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        world = World(started, session)
        machine, found = await world.measured(shape.profiles)
        say(str(found))
        machine = await under_load(world, machine, shape.load_s)
        say(str(machine))
        for number, split in itertools.product(range(shape.rounds), SPLITS):
            await world.group(SPLITS[split])
            for seed, level in enumerate(LEVELS, number * len(LEVELS)):
                trace = made(level * machine.capacity(), shape.load_s, seed)
                cell = cells.setdefault((split, level), Cell(split, level))
                load = await world.load(trace)
                pace = machine.pace(SPLITS[split], trace, load.seconds, load.taken)
                slower = machine.slowed(pace * load.stretch)
                cell.rounds.append((predicted(slower, SPLITS[split], trace), load.seen))
                cell.stretches.append(load.stretch)
                say(f"{cell}, at {pace:.2f} x {load.stretch:.2f} times the time")
    return list(cells.values()), str(found)


async def under_load(world: World, machine: Machine, for_s: float) -> Machine:
    """Knows what is taken beside engines, as a load on one pair shows."""
    trace = made(_KNOWN_LEVEL * machine.capacity(), for_s, _KNOWN_SEED)
    load = await world.load(trace)
    return machine.under_load(trace, load.seconds, load.taken)


def ranked(cells: Sequence[Cell]) -> bool:
    """Whether splits that clearly differ are predicted in the right order."""
    for level in LEVELS:
        one, other = (c for c in cells if c.level == level)
        for what in ("ttft_s", "tpot_s"):
            (first, a), (second, b) = one.p90_s(what), other.p90_s(what)
            if abs(a / b - 1) > _APART and (a < b) != (first < second):
                return False
    return True


def figures(cells: Sequence[Cell]) -> dict[str, Any]:
    """The result of the real runs."""
    ttft, tpot = ([c.error(what) for c in cells] for what in ("ttft_s", "tpot_s"))
    return {
        "ttft_p90_err": round(statistics.fmean(ttft), 4),
        "tpot_p90_err": round(statistics.fmean(tpot), 4),
        "ranking_ok": ranked(cells),
        "ttft_p90_err_worst": round(max(ttft), 4),
        "tpot_p90_err_worst": round(max(tpot), 4),
        "requests": sum(c.requests for c in cells),
        "cells": [c.as_json() for c in cells],
    }


def compared(trace: Path, profile: Path) -> dict[str, Any]:
    """Aggregated, disaggregated and mixed clusters over loads, for R2's promises."""
    hardware, errors = load_hardware(profile)
    question = Question(
        chained(read_any(trace)),
        Promises(2.0, 0.04),
        (hardware,),
        gpus_max=96,
        ladder=(0.25, 0.5, 2.0, 4.0, 8.0),
    )
    found = plan(question, say)
    fits = [(hardware.name, error) for error in errors]
    print("\n".join(report.lines(found, fits)), flush=True)
    return {"planned": report.figures(found, fits)}


@contextlib.contextmanager
def favoured(pids: Sequence[int]) -> Iterator[None]:
    """Lets the sessions of these processes go before all others, where that is allowed.

    The machine is shared, and what others take of its cores is not what is predicted.
    """
    files = [Path(f"/proc/{pid}/autogroup") for pid in pids]
    before = {file: file.read_text().rpartition(" ")[2] for file in files if file.exists()}
    _write_each(dict.fromkeys(before, _FAVOUR))
    try:
        yield
    finally:
        _write_each(before)


def _write_each(texts: Mapping[Path, str]) -> None:
    for file, text in texts.items():
        with contextlib.suppress(OSError):
            file.write_text(text)


def run(shape: Shape) -> dict[str, Any]:
    """The real runs from start to end."""
    with nodes.running(settings(), prefill=1, decode=2) as started:
        start_s = seconds()
        say("router and workers are up")
        pids = [pid for w in started.workers for pid in (w.pid, w.engine_pid)]
        with favoured([os.getpid(), started.router_pid, *pids]):
            cells, described = asyncio.run(measure(started, shape))
    return {**figures(cells), "fit": described, "start_s": round(start_s, 1)}


def main(argv: Sequence[str] | None = None) -> int:
    parser = command(__doc__, "under 50 s once the engines are measured")
    parser.add_argument("--trace", type=Path, metavar="FILE", help="compare clusters for it")
    parser.add_argument("--profile", type=Path, metavar="FILE", help="of the engines to compare")
    args = parser.parse_args(argv)
    # Python's helper process ends with this one; it is not to carry the mark.
    multiprocessing.resource_tracker.ensure_running()
    mark = leftovers.mark()
    extend_process_environ(mark.environment)
    result = run(QUICK if args.quick else FULL)
    result |= {"left": mark.left(), "quick": args.quick}
    if args.trace and args.profile:
        result |= compared(args.trace, args.profile)
    result |= {"seconds": round(seconds(), 1)}
    tell(result, args.json)
    close = max(result["ttft_p90_err"], result["tpot_p90_err"]) <= WITHIN
    return 0 if close and result["ranking_ok"] and not result["left"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
