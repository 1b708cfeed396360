"""A registry as text, in the two formats that Prometheus reads.

For counters, gauges, histograms and summaries, which are all that Baton has, the same text as
prometheus-client's own, several times sooner, because names that are plain need no look at each of
their letters: a page of many workers is rendered in the router's event loop. The moments at which
counters were made (`_created`) are left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from prometheus_client import CollectorRegistry, disable_created_metrics
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.samples import Exemplar, Sample
from prometheus_client.utils import floatToGoString

_OPEN = "application/openmetrics-text"
_ROWS_MAX = 16_384


def rendered(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """The text for a scraper with this Accept header, and its content type."""
    disable_created_metrics()  # type: ignore[no-untyped-call]
    _, content_type = choose_encoder(accept)
    render = openmetrics if content_type.startswith(_OPEN) else plain
    return render(registry.collect()).encode(), content_type


def plain(metrics: Iterable[Metric]) -> str:
    """The text format 0.0.4, which knows no exemplars."""
    lines: list[str] = []
    for metric in metrics:
        name = f"{metric.name}_total" if metric.type == "counter" else metric.name
        text = metric.documentation.replace("\\", r"\\").replace("\n", r"\n")
        lines.append(f"# HELP {name} {text}\n# TYPE {name} {metric.type}\n")
        lines += [f"{_shown(s)}\n" for s in metric.samples]
    return "".join(lines)


def openmetrics(metrics: Iterable[Metric]) -> str:
    """OpenMetrics 1.0, with exemplars."""
    lines: list[str] = []
    for metric in metrics:
        text = _escaped(metric.documentation)
        lines.append(f"# HELP {metric.name} {text}\n# TYPE {metric.name} {metric.type}\n")
        lines += [
            f"{_shown(s)}{_example(s.exemplar) if s.exemplar else ''}\n" for s in metric.samples
        ]
    lines.append("# EOF\n")
    return "".join(lines)


def _shown(sample: Sample) -> str:
    # A name always comes with the same label names in the same order.
    row = (sample.name, *sample.labels.values())
    return f"{_ROWS.get(row) or _row(row, sample)}{_number(sample.value)}"


_ROWS: dict[tuple[str, ...], str] = {}
"""What is before the value, by name and label values: rows come again with each scrape."""


def _row(row: tuple[str, ...], sample: Sample) -> str:
    if len(_ROWS) >= _ROWS_MAX:
        _ROWS.clear()
    pairs = [f'{name}="{_escaped(value)}"' for name, value in sorted(sample.labels.items())]
    _ROWS[row] = text = f"{sample.name}{{{','.join(pairs)}}} " if pairs else f"{sample.name} "
    return text


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _example(exemplar: Exemplar) -> str:
    pairs = [f'{name}="{_escaped(value)}"' for name, value in sorted(exemplar.labels.items())]
    at = "" if exemplar.timestamp is None else f" {exemplar.timestamp}"
    return f" # {{{','.join(pairs)}}} {_number(exemplar.value)}{at}"


@lru_cache(_ROWS_MAX)
def _number(value: float) -> str:
    """Most rows of a page have one of few values, or the one they had before."""
    text: str = floatToGoString(value)  # type: ignore[no-untyped-call]
    return text
