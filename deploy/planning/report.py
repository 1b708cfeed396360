"""A plan as lines for a terminal, as figures, and as one HTML file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from deploy.chart import Chart, Series
from deploy.page import page, pictures, table
from simulator.engine_model.fit import FitError
from simulator.planning.planner import Found, Plan, Point
from simulator.planning.terms import Kind
from simulator.planning.verdict import break_even, shares, verdict

Fits = Sequence[tuple[str, FitError]]
_FIT_WARN = 0.2
_HEAD = ("cluster", "engine", "GPUs", "GPU-h/day", "attained", "TTFT s", "TPOT ms", "divided")


# --- for a terminal -------------------------------------------------------------------------------


def lines(plan: Plan, fits: Fits) -> Iterator[str]:
    """The answer first, then what it stands on."""
    yield from verdict(plan)
    yield ""
    yield load_of(plan)
    yield from _aligned(_HEAD, [_row(f) for f in plan.found])
    if len(plan.points) > 1:
        yield ""
        yield "GPUs that the cheapest of each kind needs, by load (first look, one seed):"
        yield from _aligned(_load_head(plan), [_load_row(plan, p) for p in plan.points])
    for line in notes(plan, fits):
        yield f"note: {line}"


def load_of(plan: Plan) -> str:
    """What was replayed and promised."""
    trace, promised = plan.question.trace, plan.question.promises
    return (
        f"{trace.name}: {len(trace.requests)} requests in {trace.seconds:.0f} s "
        f"({trace.per_second:.2f}/s); TTFT {promised.ttft_s:g} s and TPOT "
        f"{promised.tpot_s * 1000:g} ms for {promised.share:.0%} of them"
    )


def notes(plan: Plan, fits: Fits) -> Iterator[str]:
    """What has to be known of the figures."""
    if plan.step_s:
        yield (
            f"arrivals were recorded in steps of {plan.step_s:.3g} s and are spread over them; "
            "--as-recorded lets them come at once"
        )
    for name, error in fits:
        if error.worst > _FIT_WARN:
            yield f"{name} is not described well: {error}"


def _row(found: Found) -> tuple[str, ...]:
    trial, setup = found.trial, found.trial.setup
    return (
        f"{setup}{'' if found.keeps else ' (misses)'}",
        setup.hardware.name,
        str(setup.gpus),
        str(setup.gpus * 24),
        shares(found),
        f"{trial.ttft_s:.2f}",
        f"{trial.tpot_s * 1000:.1f}",
        f"{trial.divided:.0%}",
    )


def _load_head(plan: Plan) -> tuple[str, ...]:
    return ("requests/s", *plan.question.kinds)


def _load_row(plan: Plan, point: Point) -> tuple[str, ...]:
    return (f"{point.per_s:.2f}", *(_needed(point, kind) for kind in plan.question.kinds))


def _needed(point: Point, kind: Kind) -> str:
    setup = point.cheapest.get(kind)
    return "-" if setup is None else f"{setup.gpus} ({setup})"


def _aligned(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(r[i]) for r in (head, *rows)) for i in range(len(head))]
    for row in (head, *rows):
        yield "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()


# --- figures --------------------------------------------------------------------------------------


def figures(plan: Plan, fits: Fits) -> dict[str, Any]:
    """Everything as plain values; times in seconds."""
    question = plan.question
    return {
        "trace": question.trace.name,
        "requests": len(question.trace.requests),
        "per_s": question.trace.per_second,
        "slo": {
            "ttft_s": question.promises.ttft_s,
            "tpot_s": question.promises.tpot_s,
            "share": question.promises.share,
        },
        "feasible": plan.best is not None,
        "verdict": verdict(plan),
        "break_even_per_s": break_even(plan),
        "hopeless": plan.hopeless,
        "found": [_figures(f) for f in plan.found],
        "loads": [
            {"per_s": p.per_s, "gpus": {kind: p.gpus(kind) for kind in question.kinds}}
            for p in plan.points
        ],
        "fits": [{"profile": name, "error": str(error)} for name, error in fits],
    }


def _figures(found: Found) -> dict[str, Any]:
    trial, setup = found.trial, found.trial.setup
    return {
        "kind": setup.kind,
        "profile": setup.hardware.name,
        "prefill": 0 if setup.kind is Kind.AGGREGATED else setup.prefill,
        "decode": setup.decode,
        "aggregated": setup.prefill if setup.kind is Kind.AGGREGATED else 0,
        "chunk_tokens": setup.chunk_tokens,
        "gpus": setup.gpus,
        "gpu_hours": trial.gpu_hours,
        "keeps": found.keeps,
        "attained": found.sure.mean,
        "attained_low": found.sure.low,
        "attained_high": found.sure.high,
        "ttft_s": _finite(trial.ttft_s),
        "tpot_s": _finite(trial.tpot_s),
        "divided": trial.divided,
        "hit_share": trial.hit_share,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


# --- HTML -----------------------------------------------------------------------------------------


def html(plan: Plan, fits: Fits) -> str:
    """The whole file: nothing to fetch, nothing to run."""
    head = f"baton plan: {plan.question.trace.name}"
    body = [
        f"<h1>{escape(head)}</h1>",
        *(f"<p>{escape(line)}</p>" for line in verdict(plan)),
        *(f'<p class="warn">{escape(line)}</p>' for line in notes(plan, fits)),
        f"<h2>Clusters</h2><p>{escape(load_of(plan))}</p>",
        table(_HEAD, map(_row, plan.found)),
        "<h2>Loads</h2>",
        table(_load_head(plan), (_load_row(plan, p) for p in plan.points)),
        pictures(charts(plan)),
        "<h2>Engines</h2>",
        table(("profile", "fit"), ((name, str(error)) for name, error in fits)),
    ]
    return page(head, body)


def charts(plan: Plan) -> list[Chart]:
    """GPUs over load, and what was tried at the load itself."""
    kinds = plan.question.kinds
    needed = [
        Series(kind, [(p.per_s, float(gpus)) for p in plan.points if (gpus := p.gpus(kind))])
        for kind in kinds
    ]
    turn = break_even(plan)
    marks = [] if turn is None else [("two pools cheaper", turn)]
    tried = [
        Series(
            kind,
            [(float(t.setup.gpus), t.attained) for t in plan.tried if t.setup.kind is kind],
            dots=True,
        )
        for kind in kinds
    ]
    return [
        Chart("GPUs needed, by load", "requests/s", "GPUs", needed, log_x=True, marks=marks),
        Chart("Clusters tried at this load", "GPUs", "share with both promises", tried),
    ]
