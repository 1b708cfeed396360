"""What `benchmarks.routing` found, for people: one Markdown table per sweep, and plots as PNG."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.routing_sweeps import Point

_TITLES = {
    "load": "Load: requests/s on 8 workers",
    "view": "What routers know: 6 requests/s on 8 workers",
    "workers": "Workers, at 0.75 requests/s each",
    "keys": "Shared prefixes, at 9 requests/s (from 1,000 on: 6) on 8 workers",
    "membership": "Membership: 5 requests/s on 8 workers",
}
_FIGURES = {
    "attained": "attained",
    "ttft_p90_s": "TTFT P90 in s",
    "cached_share": "share of prompt tokens cached",
    "imbalance": "imbalance (coefficient of variation of work)",
}


def markdown(points: Sequence[Point], result: Mapping[str, Any]) -> str:
    """All tables."""
    parts = ["# Routing benchmark\n", _mandatory(result), _goodput(result)]
    for sweep, group in itertools.groupby(points, key=lambda p: p.sweep):
        head = "| setting | at | rule | attained | P50 s | P90 s | P99 s | cached | imbalance |"
        rows = "\n".join(map(_row, group))
        parts.append(f"## {_TITLES[sweep]}\n\n{head}\n{_rule(9)}\n{rows}\n")
    return "\n".join(parts)


def plot(points: Iterable[Point], folder: Path) -> list[Path]:
    """The load sweep, one picture per figure and setting. Needs matplotlib."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    chosen = [p for p in points if p.sweep == "load"]
    series = list(dict.fromkeys(p.series for p in chosen if "asking" not in p.series))
    written = []
    for name, title in _FIGURES.items():
        figure, axes = plt.subplots(1, len(series), figsize=(11, 4.5), squeeze=False)
        for axis, one in zip(axes[0], series, strict=True):
            for rule, line in _lines(chosen, one, name).items():
                axis.plot(*zip(*line, strict=True), marker="o", label=rule)
            axis.set(title=one, xlabel="requests/s", ylabel=title)
            axis.grid(alpha=0.3)
        axes[0][-1].legend(fontsize=8)
        written.append(folder / f"routing_{name}.png")
        figure.tight_layout()
        figure.savefig(written[-1], dpi=110)
        plt.close(figure)
    return written


def as_json(points: Iterable[Point]) -> list[dict[str, Any]]:
    """The points as plain values."""
    return [
        {
            "sweep": p.sweep,
            "series": p.series,
            "x": p.x,
            "rule": p.rule,
            "attained": round(p.mean.attained, 4),
            "interval": round(p.mean.interval, 4),
        }
        | {name: round(p.mean.of(name), 4) for name in _FIGURES if name != "attained"}
        for p in points
    ]


def _lines(points: Sequence[Point], series: str, name: str) -> dict[str, list[tuple[float, float]]]:
    """Per rule (load, figure). Who may ask is drawn beside those who may not."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for p in points:
        asking = "asking" in p.series and "blind" in series
        if p.series == series or asking:
            label = f"{p.rule}, asking" if asking else p.rule
            lines.setdefault(label, []).append((float(p.x), p.mean.of(name)))
    return lines


def _row(p: Point) -> str:
    columns = ("ttft_p50_s", "ttft_p90_s", "ttft_p99_s", "cached_share", "imbalance")
    figures = "{:.2f} | {:.2f} | {:.2f} | {:.3f} | {:.3f}".format(*map(p.mean.of, columns))
    attained = f"{p.mean.attained:.3f} ± {p.mean.interval:.3f}"
    return f"| {p.series} | {p.x} | {p.rule} | {attained} | {figures} |"


def _mandatory(result: Mapping[str, Any]) -> str:
    head = "| requests/s | fresh | best baseline | blind | DualMaps | best baseline | asking |"
    rows = []
    for load, row in result["by_load"].items():
        near = row["intervals"]
        cells = [
            f"{row['r1_fresh']:.3f} ± {near['fresh']:.3f}",
            f"{row['r1_fresh_best_baseline']:.3f} ({row['r1_fresh_best_baseline_name']})",
            f"{row['r1_blind']:.3f} ± {near['blind']:.3f}",
            f"{row['dualmap_blind']:.3f}",
            f"{row['best_blind_baseline']:.3f} ({row['best_blind_baseline_name']})",
            f"{row['r1_ask']:.3f} ± {near['ask']:.3f}",
        ]
        rows.append(f"| {load} | {' | '.join(cells)} |")
    return f"## R1: attainment of TTFT 5 s\n\n{head}\n{_rule(7)}\n" + "\n".join(rows) + "\n"


def _goodput(result: Mapping[str, Any]) -> str:
    fresh, stale = result["r2_fresh_each"], result["r2_stale_each"]
    rules = sorted(stale, key=lambda rule: -stale[rule])
    rows = [f"| {rule} | {fresh.get(rule, '-')} | {stale[rule]} |" for rule in rules]
    head = "| rule | one fresh router | four routers, 1 s stale |"
    title = "## R2: requests/s at which 90 % get TTFT 2 s and TPOT 40 ms"
    return f"{title}\n\n{head}\n{_rule(3)}\n" + "\n".join(rows) + "\n"


def _rule(columns: int) -> str:
    return "|" + "---|" * columns
