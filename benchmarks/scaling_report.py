"""What `benchmarks.scaling` found, for people: tables in Markdown, and plots as PNG."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.scaling_runs import BATON, Score

NEAR = 0.1
"""A point of a rival's curve may be dearer than Baton by so many workers and still count."""


@dataclass(frozen=True, slots=True)
class Point:
    """The mean of one law over seeds, in one scenario."""

    scenario: str
    law: str
    aim: float
    startup_s: float
    score: Score


def at_cost(points: Iterable[Point], workers: float) -> float | None:
    """The attainment that a law reaches at this many mean workers; None when it is always dearer.

    The best of what its cheaper points reach, and of all straight lines between a cheaper and a
    dearer one: as if its target had been tuned to exactly this cost.
    """
    curve = sorted((p.score.workers, p.score.attained) for p in points)
    cheap = [c for c in curve if c[0] <= workers + NEAR]
    dear = [c for c in curve if c[0] > workers + NEAR]
    lines = [
        low[1] + (high[1] - low[1]) * max(workers - low[0], 0.0) / (high[0] - low[0])
        for low in cheap
        for high in dear
    ]
    return max([c[1] for c in cheap] + lines, default=None)


def equal_cost(points: Sequence[Point]) -> dict[str, float | None]:
    """Every rival's attainment at Baton's mean workers. `points` are of one scenario."""
    workers = next(p.score.workers for p in points if p.law == BATON)
    laws = dict.fromkeys(p.law for p in points if p.law not in (BATON, "static peak"))
    return {law: at_cost((p for p in points if p.law == law), workers) for law in laws}


def best(rivals: Mapping[str, float | None]) -> tuple[str, float]:
    """The best rival that was not dearer."""
    found = {law: attained for law, attained in rivals.items() if attained is not None}
    law = max(found, key=lambda name: found[name])
    return law, found[law]


def table(points: Iterable[Point]) -> str:
    """One row per point."""
    columns = "scenario law target start-up attained workers GPU-hours actions/h dropped"
    head = f"| {' | '.join(columns.split())} |"
    rows = [
        f"| {p.scenario} | {p.law} | {p.aim:g} | {p.startup_s:g} | {p.score.attained:.4f} "
        f"| {p.score.workers:.2f} | {p.score.gpu_hours:.2f} | {p.score.per_hour:.1f} "
        f"| {p.score.dropped} |"
        for p in points
    ]
    return "\n".join([head, "|" + "---|" * 9, *rows]) + "\n"


def as_json(points: Iterable[Point]) -> list[dict[str, Any]]:
    """The points as plain values."""
    return [
        {
            "scenario": p.scenario,
            "law": p.law,
            "aim": p.aim,
            "startup_s": p.startup_s,
            "attained": round(p.score.attained, 4),
            "workers": round(p.score.workers, 3),
            "gpu_hours": round(p.score.gpu_hours, 3),
            "per_hour": round(p.score.per_hour, 2),
            "dropped": p.score.dropped,
        }
        for p in points
    ]


def plot(points: Sequence[Point], folder: Path) -> list[Path]:
    """Attainment over cost on the ramp, and what Baton wanted over time. Needs matplotlib."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    ramp = [p for p in points if p.scenario == "ramp" and p.startup_s == 60.0]
    figure, (costs, times) = plt.subplots(1, 2, figsize=(12, 4.8))
    for law in dict.fromkeys(p.law for p in ramp):
        curve = sorted((p.score.workers, p.score.attained) for p in ramp if p.law == law)
        costs.plot(*zip(*curve, strict=True), marker="o", label=law)
    costs.set(title="ramp, start-up 60 s", xlabel="mean workers", ylabel="attained")
    costs.legend(fontsize=8)
    series = next(p for p in ramp if p.law == BATON).score.series
    for pool, label in ((1, "prefill"), (2, "decode")):
        times.step([s[0] for s in series], [s[pool] for s in series], where="post", label=label)
    times.set(title="what Baton wanted", xlabel="seconds", ylabel="workers")
    times.legend(fontsize=8)
    for axis in (costs, times):
        axis.grid(alpha=0.3)
    written = folder / "scaling_ramp.png"
    figure.tight_layout()
    figure.savefig(written, dpi=110)
    plt.close(figure)
    return [written]
