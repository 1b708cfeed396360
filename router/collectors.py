"""What one router renders at each scrape, besides its own counters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from baton.signals import RouterSignals
from router.metrics import RouterMetrics
from router.pool_metrics import PoolCollector
from router.registry import Registry
from router.signal_metrics import SignalCollector
from router.split_metrics import SplitMetrics
from router.transfers import TransferCollector
from router.worker_metrics import WorkerCollector


def register(
    metrics: RouterMetrics,
    registry: Registry,
    figures: Callable[[], Mapping[str, Any]],
    signals: Callable[[], RouterSignals],
    splits: SplitMetrics,
) -> None:
    """Adds all of them to the router's metrics."""
    for one in (
        WorkerCollector(registry.peers),
        TransferCollector(registry.peers),
        PoolCollector(figures),
        SignalCollector(signals),
    ):
        metrics.registry.register(one)
    splits.register(metrics.registry)
