"""`baton plan --check`: the last hour of a router, replayed, beside what it measured."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from baton.percentile import percentile
from deploy.ask import get_json, status_page
from deploy.option_types import told, writable
from deploy.reach import Reach
from simulator.planning.hardware import load_hardware
from simulator.planning.planner import PlanError
from simulator.planning.replay import Trial, replay, warming
from simulator.planning.setups import Setup
from simulator.planning.terms import Kind, Promises
from simulator.traces.request import BLOCK_TOKENS, Request, Trace, blocks_of

_LEAST = 20
"""Fewer requests say nothing about a percentile."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one hour: at the promised percentile, and the share that got both promises."""

    ttft_s: float
    tpot_s: float
    attained: float


def checked(args: argparse.Namespace, reach: Reach) -> tuple[int, str]:
    """(exit code 0, what to print). Raises BatonError, ProfileError and PlanError."""
    _refuse(args)
    writable(args.json)
    _, page = get_json(reach, "/requests")
    status = status_page(reach)
    rows, workers = _list(page, "requests"), _list(status, "workers")
    refuse_several(_list(status, "routers"))
    hardware, _ = load_hardware(*args.profile[0])
    setup = setup_of(workers, rows)
    trace = trace_of(rows)
    trial = replay(Setup(hardware, setup[0], *setup[1:]), trace, args.slo, give_up=False)
    # As in the replay, whose caches are empty to begin with.
    kept = measured(rows[warming(trace) :], args.slo)
    found = predicted(trial)
    figures = {"requests": len(rows), "measured": asdict(kept), "predicted": asdict(found)}
    return 0, told(args.json, figures, lines(rows, setup, kept, found))


def _refuse(args: argparse.Namespace) -> None:
    """Raises PlanError for options that would do nothing."""
    options = "html format rate requests as_recorded kind one_load seeds gpus_max"
    given = [f"--{name.replace('_', '-')}" for name in options.split() if getattr(args, name)]
    if given:
        raise PlanError(f"--check replays what was, as it was: {given[0]} goes with plans")
    if len(args.profile) > 1:
        raise PlanError("--check compares with one engine: the first --profile is enough")


def refuse_several(routers: Sequence[Mapping[str, Any]]) -> None:
    """Raises PlanError where one router's requests are a part of what its workers serve."""
    serving = [one for one in routers if not one.get("replaced")]
    if len(serving) > 1:
        raise PlanError(
            f"{len(serving)} routers share these workers, and each tells of its own requests only: "
            "a cluster with one router can be checked"
        )


def trace_of(rows: Sequence[Mapping[str, Any]]) -> Trace:
    """The requests as they came. What was found in a cache then is found in the replay: those
    blocks are shared by all, and what was found of a part of a block is left out of the prompt;
    other blocks are shared by nobody. Raises PlanError for too few."""
    if len(rows) < _LEAST:
        raise PlanError(f"{len(rows)} requests in the last hour are too few to compare")
    first_s = max(row["age_s"] for row in rows)
    requests = tuple(_request(n, first_s - row["age_s"], row) for n, row in enumerate(rows))
    return Trace("the last hour", requests)


def _request(number: int, at_s: float, row: Mapping[str, Any]) -> Request:
    shared, part = divmod(row["cached_tokens"], BLOCK_TOKENS)
    tokens = row["prompt_tokens"] - part
    own = ((number + 1) * 1_000_000 + i for i in range(shared, blocks_of(tokens)))
    return Request(number, at_s, tokens, row["output_tokens"], (*range(shared), *own))


def setup_of(
    workers: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]
) -> tuple[Kind, int, int]:
    """What serves now: (kind, prefill, decode). Raises PlanError for a pool without workers."""
    up = [w["role"] for w in workers if w["up"]]
    prefill, decode = up.count("prefill"), up.count("decode")
    if not (prefill and decode):
        raise PlanError(f"only two pools can be compared: {prefill} prefill, {decode} decode")
    divided = all(row["divided"] for row in rows)
    return Kind.DISAGGREGATED if divided else Kind.MIXED, prefill, decode


def measured(rows: Sequence[Mapping[str, Any]], promises: Promises) -> Figures:
    """What the router saw."""
    ttft = [row["ttft_s"] for row in rows]
    tpot = [row["tpot_s"] or 0.0 for row in rows]
    kept = [
        row["ttft_s"] <= promises.ttft_s and (row["tpot_s"] or 0.0) <= promises.tpot_s
        for row in rows
    ]
    share = promises.share
    return Figures(
        percentile(ttft, share) or 0.0, percentile(tpot, share) or 0.0, sum(kept) / len(kept)
    )


def predicted(trial: Trial) -> Figures:
    """What the planner would have said."""
    return Figures(trial.ttft_s, trial.tpot_s, trial.attained)


def lines(
    rows: Sequence[Mapping[str, Any]], setup: tuple[Kind, int, int], kept: Figures, found: Figures
) -> Iterator[str]:
    """For a terminal."""
    kind, prefill, decode = setup
    yield f"{len(rows)} requests on {prefill} prefill + {decode} decode workers, {kind}"
    yield f"{'':10}{'predicted':>12}{'measured':>12}{'error':>9}"
    for name, unit, one, other in (
        ("TTFT", "ms", found.ttft_s * 1000, kept.ttft_s * 1000),
        ("TPOT", "ms", found.tpot_s * 1000, kept.tpot_s * 1000),
        ("attained", "%", found.attained * 100, kept.attained * 100),
    ):
        off = f"{one / other - 1:+.0%}" if other else "-"
        yield f"{name:10}{one:>9.1f} {unit:2}{other:>9.1f} {unit:2}{off:>9}"
    yield "note: workers as they are now; errors over 20 % ask for a new profile"


def _list(page: object, name: str) -> list[Mapping[str, Any]]:
    found = page.get(name) if isinstance(page, dict) else None
    if not isinstance(found, list):
        raise PlanError(f"the router does not tell of its {name}: it may be of another version")
    return found
