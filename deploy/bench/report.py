"""The report of a run as one HTML file, and as lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape

from deploy.bench.client import Outcome
from deploy.bench.figures import Figures, Slo, Spread, latencies
from deploy.bench.runner import Run
from deploy.chart import Chart, Series
from deploy.page import page, pictures, table

_NAMES = {"ttft": "TTFT", "tpot": "TPOT", "itl": "ITL", "e2e": "E2E"}
_PROMISES = {
    "ttft": "TTFT within {:g} s",
    "ttft_per_1000": "and {:g} s for each 1,000 tokens of the prompt",
    "tpot": "TPOT within {:g} s",
    "e2e": "E2E within {:g} s",
}


def lines(found: Figures, slo: Slo) -> Iterator[str]:
    """For a terminal."""
    yield (
        f"{found.requests} requests in {found.window_s:.1f} s ({found.offered_per_s:.2f}/s): "
        f"{found.completed} completed, {found.requests - found.completed} failed"
    )
    for kind, f in found.failures.items():
        after = f", Retry-After {f.retry_after} times" if f.retry_after else ""
        mean = "" if f.retry_after_s is None else f" ({f.retry_after_s:.1f} s on average)"
        yield f"  {f.count} x {kind}{after}{mean}"
    yield f"{'ms':5}" + "".join(f"{name:>10}" for name in _COLUMNS)
    for kind, spread in found.latency.items():
        yield f"{_NAMES[kind]:5}" + "".join(f"{value:>10.1f}" for value in _in_ms(spread))
    yield (
        f"output {found.output_tokens_per_s:.1f} tokens/s; prompts {found.input_tokens} tokens, "
        f"{found.cached_tokens} of them cached"
    )
    yield (
        f"goodput {found.goodput_per_s:.2f} requests/s, {found.attained:.1%} of all "
        f"({promises(slo)})"
    )
    yield from warnings(found)


def warnings(found: Figures) -> Iterator[str]:
    """What forbids to take the figures as they are."""
    if found.late:
        late = f"{found.late_p99_s * 1000:.0f} ms late (p99)"
        why = "it is too slow for this load, or shares its cores with what it measures"
        yield f"warning: this machine sent requests up to {late}: {why}"
    if found.unfinished:
        yield f"warning: ended early; {found.unfinished} requests under way are left out"


def promises(slo: Slo) -> str:
    """What was promised, in words."""
    promised = slo.as_json()
    parts = [text.format(promised[name]) for name, text in _PROMISES.items() if name in promised]
    return ", ".join(parts) or "nothing promised: completed is good"


def html(found: Figures, slo: Slo, run: Run, facts: Mapping[str, object]) -> str:
    """The whole file."""
    head = f"{facts.get('load', 'load')} on {facts.get('url', '')}"
    body = [
        f"<h1>baton bench: {escape(head)}</h1>",
        *(f'<p class="warn">{escape(line)}</p>' for line in warnings(found)),
        table(("", "value"), _summary(found, slo)),
        "<h2>Latency, ms</h2>",
        table(("", *_COLUMNS), [(_NAMES[k], *_ms(s)) for k, s in found.latency.items()]),
        "<h2>Failures</h2>",
        table(_FAILURE_COLUMNS, _failures(found)),
        pictures(charts(run, slo)),
        "<h2>Settings</h2>",
        table(("", "value"), [(str(k), str(v)) for k, v in facts.items()]),
    ]
    return page(head, body)


def charts(run: Run, slo: Slo) -> list[Chart]:
    """What happened over the run, warm-up included."""
    done = [o for o in run.outcomes if not o.failure]
    promised = slo.as_json()
    return [
        *(_shares(kind, latencies(done, kind), promised.get(kind)) for kind in ("ttft", "tpot")),
        Chart(
            "Latency over the run",
            "sent after, s",
            "seconds",
            [
                Series("TTFT", [(o.sent_s, o.ttft_s) for o in done if o.ttft_s], dots=True),
                Series("E2E", [(o.sent_s, o.total_s) for o in done], dots=True),
            ],
        ),
        Chart("In flight", "s", "requests", [Series("in flight", in_flight(run.outcomes))]),
        Chart(
            "Requests per second",
            "s",
            "requests/s",
            [
                Series("due", _per_second([o.due_s for o in run.outcomes])),
                Series("completed", _per_second([o.sent_s + o.total_s for o in done])),
                Series(
                    "failed",
                    _per_second([o.sent_s + o.total_s for o in run.outcomes if o.failure]),
                ),
            ],
        ),
    ]


def in_flight(outcomes: Iterable[Outcome]) -> list[tuple[float, float]]:
    """How many were under way, at each change; those never sent do not count."""
    sent = [o for o in outcomes if o.total_s]
    changes = sorted([(o.sent_s, 1) for o in sent] + [(o.sent_s + o.total_s, -1) for o in sent])
    points, now = [], 0
    for at_s, change in changes:
        now += change
        points.append((at_s, float(now)))
    return points


def _shares(kind: str, values: Sequence[float], promised: float | None) -> Chart:
    ordered = sorted(v for v in values if v > 0)
    points = [(v * 1000, (i + 1) / len(ordered)) for i, v in enumerate(ordered)]
    marks = [] if promised is None else [("promised", promised * 1000)]
    series = [Series(_NAMES[kind], points)]
    return Chart(f"{_NAMES[kind]}: share within", "ms", "share", series, log_x=True, marks=marks)


def _per_second(moments: Sequence[float]) -> list[tuple[float, float]]:
    if not moments:
        return []
    width = max(1.0, max(moments) / 60)
    counts = [0] * (int(max(moments) / width) + 1)
    for at_s in moments:
        counts[int(at_s / width)] += 1
    return [((i + 0.5) * width, count / width) for i, count in enumerate(counts)]


_FAILURE_COLUMNS = ("kind", "count", "with Retry-After", "its mean, s", "for example")
_COLUMNS = ("mean", "p50", "p90", "p95", "p99", "most")


def _in_ms(spread: Spread) -> list[float]:
    return [getattr(spread, name) * 1000 for name in _COLUMNS]


def _ms(spread: Spread) -> list[str]:
    return [f"{value:.1f}" for value in _in_ms(spread)]


def _summary(found: Figures, slo: Slo) -> list[tuple[str, str]]:
    counts = (found.requests, found.completed, found.requests - found.completed)
    return [
        ("requests, completed, failed", ", ".join(map(str, counts))),
        ("offered", f"{found.offered_per_s:.2f} requests/s for {found.window_s:.1f} s"),
        ("goodput", f"{found.goodput_per_s:.2f} requests/s, {found.attained:.1%} of all"),
        ("promised", promises(slo)),
        ("output", f"{found.output_tokens_per_s:.1f} tokens/s"),
        ("prompt tokens, cached", f"{found.input_tokens}, {found.cached_tokens}"),
        ("sent late, p99", f"{found.late_p99_s * 1000:.1f} ms"),
    ]


def _failures(found: Figures) -> list[tuple[str, ...]]:
    rows = found.failures.items()
    return [
        (kind, str(f.count), str(f.retry_after), _or_none(f.retry_after_s), f.example)
        for kind, f in rows
    ]


def _or_none(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.2f}"
