"""Whether the planner's predictions come true: real runs on this machine beside their replays.

usage: python -m benchmarks.plan [--quick] [--json FILE] [--trace FILE --profile FILE]
Three real workers with the demo model share this machine's cores. They are measured alone, one
prefill and one decode worker; from that profile the planner predicts the ninetieth percentiles of
TTFT and TPOT of two splits of the three (1P2D, 2P1D) under three loads, and then the loads are run.
The errors are the means over the six cells; the worst is beside them. The ranking is right if no
pair of splits whose measured values differ by more than a tenth is predicted the other way round.
With a trace in a known format and a profile, aggregated and disaggregated clusters for that trace
are compared over loads, too. The last line is one JSON object; the exit status is 0 only if both
errors are within 20 %, the ranking is right, and nothing is left of the run.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing.resource_tracker
import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp

from baton.settings import extend_process_environ
from benchmarks import leftovers, nodes
from benchmarks.faults_result import say, seconds
from benchmarks.plan_world import (
    ANSWER,
    CHUNK_TOKENS,
    KV_BYTES_PER_TOKEN,
    KV_GIB,
    PROMPT,
    SPLITS,
    Seen,
    World,
    made,
    settings,
)
from deploy.planning import report
from simulator.engine_model.fit import fit
from simulator.planning.hardware import load_hardware
from simulator.planning.planner import Question, plan
from simulator.planning.replay import cluster_of, replay, warming
from simulator.planning.setups import Hardware, Setup
from simulator.planning.terms import Kind, Promises
from simulator.rules import EngineRules, NetworkRules
from simulator.traces.detect import read_any
from simulator.traces.request import Trace
from simulator.traces.shape import chained

LEVELS = (0.25, 0.45, 0.65)
"""Shares of the cores that the work of a load would keep busy."""
QUICK_S, FULL_S = 5.0, 90.0
WITHIN = 0.2
_APART = 0.1
_BATCH = 4
_LOAD_MAX = 0.9
_FAVOUR = "-18"
_ANY = Promises(60.0, 60.0)


@dataclass(frozen=True, slots=True)
class Cell:
    """One split under one load."""

    split: str
    level: float
    predicted: Seen
    measured: Seen

    def error(self, what: str) -> float:
        """Of the prediction, relative to what was measured."""
        predicted: float = getattr(self.predicted, what)
        return abs(predicted / float(getattr(self.measured, what)) - 1)


async def measure(started: nodes.Nodes, for_s: float, repeats: int) -> tuple[list[Cell], str]:
    """All cells, and how well the profile is described."""
    cores = len(os.sched_getaffinity(0))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        world = World(started, session)
        found = fit(await world.profile(repeats))
        say(str(found))
        aside = world.aside
        say(str(aside))
        hardware = engine(found.times, cores, aside.latency_s)
        cells = []
        for split in SPLITS:
            for seed, level in enumerate(LEVELS):
                trace = made(level * capacity(hardware, aside.request_s), for_s, seed)
                left = replace(hardware, cores=cores - aside.cores(trace))
                predicted = predict(waiting(left, split, trace, cores), split, trace)
                measured = await world.load(split, trace, warming(trace))
                cells.append(Cell(split, level, predicted, measured))
                say(_line(cells[-1]))
    return cells, str(found)


def engine(times: Any, cores: int, latency_s: float) -> Hardware:
    """The workers as they were started; all that is not computing is the way of the KV."""
    kv_tokens = int(KV_GIB * 2**30 / KV_BYTES_PER_TOKEN)
    return Hardware(
        "these cores",
        times,
        EngineRules(kv_tokens, CHUNK_TOKENS, 256),
        network=NetworkRules(bytes_per_s=4e9, host_bytes_per_s=4e9, latency_s=latency_s),
        cores=cores,
    )


def capacity(hardware: Hardware, aside_s: float) -> float:
    """Requests per second that keep all cores busy that engines can have, at a small batch."""
    times, prompt, answer = hardware.times, sum(PROMPT) / 2, sum(ANSWER) / 2
    step_s = times.step_s(_BATCH, _BATCH * prompt) / _BATCH
    engines = max(map(len, SPLITS.values()))
    return min(hardware.cores, engines) / (times.prefill_s(int(prompt)) + answer * step_s + aside_s)


def predict(hardware: Hardware, split: str, trace: Trace) -> Seen:
    """What the planner expects."""
    trial = replay(_setup(hardware, split), trace, _ANY, give_up=False)
    return Seen(trial.ttft_s, trial.tpot_s, len(trace.requests))


def waiting(hardware: Hardware, split: str, trace: Trace, cores: int) -> Hardware:
    """The way of a request waits for cores, too: the busier they are, the longer it takes, in the
    mean as in a queue that is served in turns (1 / (1 - load))."""
    cluster = cluster_of(_setup(hardware, split), _ANY)
    cluster.run(trace)
    assert cluster.fleet.cores is not None
    engines = cluster.fleet.cores.taken_s / trace.seconds
    load = min((engines + cores - hardware.cores) / cores, _LOAD_MAX)
    network = replace(hardware.network, latency_s=hardware.network.latency_s / (1 - load))
    return replace(hardware, network=network)


def _setup(hardware: Hardware, split: str) -> Setup:
    roles = SPLITS[split]
    prefill = sum(role.value == "prefill" for role in roles)
    return Setup(hardware, Kind.DISAGGREGATED, prefill, len(roles) - prefill)


def ranked(cells: Sequence[Cell]) -> bool:
    """Whether splits that clearly differ are predicted in the right order."""
    for level in LEVELS:
        one, other = (c for c in cells if c.level == level)
        for what in ("ttft_s", "tpot_s"):
            a, b = getattr(one.measured, what), getattr(other.measured, what)
            if abs(a / b - 1) <= _APART:
                continue
            if (a < b) != (getattr(one.predicted, what) < getattr(other.predicted, what)):
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
        "requests": sum(c.measured.requests for c in cells),
        "cells": [_cell(c) for c in cells],
    }


def _cell(cell: Cell) -> dict[str, Any]:
    return {
        "split": cell.split,
        "level": cell.level,
        "ttft_ms": [_ms(cell.predicted.ttft_s), _ms(cell.measured.ttft_s)],
        "tpot_ms": [_ms(cell.predicted.tpot_s), _ms(cell.measured.tpot_s)],
    }


def _line(cell: Cell) -> str:
    told = _cell(cell)
    return (
        f"{cell.split} at {cell.level:.0%}, {cell.measured.requests} requests: TTFT p90 "
        f"{told['ttft_ms'][0]} ms predicted, {told['ttft_ms'][1]} measured; TPOT p90 "
        f"{told['tpot_ms'][0]} and {told['tpot_ms'][1]}"
    )


def _ms(value_s: float) -> float:
    return round(value_s * 1e3, 1)


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


def run(for_s: float, repeats: int) -> dict[str, Any]:
    """The real runs from start to end."""
    with nodes.running(settings(), prefill=1, decode=2) as started:
        start_s = seconds()
        say("router and workers are up")
        pids = [pid for w in started.workers for pid in (w.pid, w.engine_pid)]
        with favoured([os.getpid(), started.router_pid, *pids]):
            cells, described = asyncio.run(measure(started, for_s, repeats))
    return {**figures(cells), "fit": described, "start_s": round(start_s, 1)}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a short run: under 50 seconds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result there")
    parser.add_argument("--trace", type=Path, metavar="FILE", help="compare clusters for it")
    parser.add_argument("--profile", type=Path, metavar="FILE", help="of the engines to compare")
    args = parser.parse_args(argv)
    # Python's helper process ends with this one; it is not to carry the mark.
    multiprocessing.resource_tracker.ensure_running()
    mark = leftovers.mark()
    extend_process_environ(mark.environment)
    result = run(QUICK_S if args.quick else FULL_S, 3 if args.quick else 7)
    result |= {"left": mark.left(), "quick": args.quick}
    if args.trace and args.profile:
        result |= compared(args.trace, args.profile)
    result |= {"seconds": round(seconds(), 1)}
    line = json.dumps(result)
    if args.json is not None:
        args.json.write_text(line + "\n")
    print(line)
    close = max(result["ttft_p90_err"], result["tpot_p90_err"]) <= WITHIN
    return 0 if close and result["ranking_ok"] and not result["left"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
