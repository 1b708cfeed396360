"""What scaling is told of the pools, as metrics: rendered at each scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from baton.messages import Role
from baton.signals import PoolSignals, RouterSignals

_GAUGES: dict[str, tuple[str, Callable[[PoolSignals], float]]] = {
    "arriving_tokens_per_second": (
        "Work that comes to this router: uncached tokens of prompts, or tokens of answers.",
        lambda pool: pool.arriving_tokens_per_s,
    ),
    "worker_tokens_per_second": (
        "The same that one worker does within the promises; 0 = not known yet.",
        lambda pool: pool.worker_tokens_per_s,
    ),
    "waiting_seconds": (
        "One worker's work that waits in this router.",
        lambda pool: pool.waiting_s,
    ),
}


class SignalCollector(Collector):
    """Renders both pools of what `signals` returns."""

    def __init__(self, signals: Callable[[], RouterSignals]) -> None:
        self._signals = signals

    def collect(self) -> Iterator[Metric]:
        """All families."""
        signals = self._signals()
        for name, (text, value) in _GAUGES.items():
            gauge = GaugeMetricFamily(f"baton_pool_{name}", text, labels=("role",))
            gauge.add_metric((Role.PREFILL.value,), value(signals.prefill))
            gauge.add_metric((Role.DECODE.value,), value(signals.decode))
            yield gauge
