"""What routing knows of each worker, as metrics: rendered at each scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_GAUGES = {
    "queue_s": ("predicted_queue_seconds", "Prompts before a new one there, as predicted."),
    "cached_blocks": ("cached_blocks", "KV blocks that it is known to cache."),
    "cache_age_s": ("cache_view_age_seconds", "Age of what is known of its cache."),
}


class PoolCollector(Collector):
    """Renders the figures of a planner; policies that know no caches have none."""

    def __init__(self, figures: Callable[[], Mapping[str, Any]]) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        """All families, those without a row as well."""
        figures = self._figures()
        rows: Mapping[str, Any] = figures.get("workers", {})
        for key, (name, text) in _GAUGES.items():
            gauge = GaugeMetricFamily(f"baton_worker_{name}", text, labels=("worker",))
            for worker, row in rows.items():
                if row[key] is not None:
                    gauge.add_metric((worker,), row[key])
            yield gauge
        yield _errors(rows)
        yield _problems(figures.get("problems", {}))


def _errors(rows: Mapping[str, Any]) -> Metric:
    gauge = GaugeMetricFamily(
        "baton_worker_prediction_error_ratio",
        "Relative error of its recent predictions, by kind of work.",
        labels=("worker", "work"),
    )
    for worker, row in rows.items():
        for work, error in row["prediction_error"].items():
            gauge.add_metric((worker, work), error)
    return gauge


def _problems(counts: Mapping[str, int]) -> Metric:
    counter = CounterMetricFamily(
        "baton_worker_news_unusable",
        "News of workers that could not be used: gaps, claims beyond all bounds, nonsense.",
        labels=("kind",),
    )
    for kind, count in counts.items():
        counter.add_metric((kind,), count)
    return counter
