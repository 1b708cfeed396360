"""What workers report of their load, as metrics: the last report, rendered at each scrape.

A worker's rows go with its link.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from router.peer import Peer

_LABELS = ("worker", "role")
_GAUGES: dict[str, tuple[str, str, Callable[[Peer], float]]] = {
    "up": ("worker_up", "1 while connected.", lambda p: p.up),
    "running": ("worker_running_requests", "Running there.", lambda p: p.load.running),
    "waiting": ("worker_waiting_requests", "Waiting there.", lambda p: p.load.waiting),
    "kv_used": ("worker_kv_used_ratio", "KV blocks in use.", lambda p: p.load.kv_used),
    "queued": (
        "worker_queued_prompt_tokens",
        "Prompt tokens queued there.",
        lambda p: p.load.queued_prompt_tokens,
    ),
    "shunned": (
        "worker_shunned",
        "1 while it gets nothing new, being silent or lost too often.",
        lambda p: p.shunned,
    ),
}


class WorkerCollector(Collector):
    """Renders the load of the workers that `peers` returns."""

    def __init__(self, peers: Callable[[], Iterable[Peer]]) -> None:
        self._peers = peers

    def collect(self) -> Iterator[Metric]:
        """All families, those without a row as well."""
        peers = tuple(self._peers())
        for name, text, value in _GAUGES.values():
            gauge = GaugeMetricFamily(f"baton_{name}", text, labels=_LABELS)
            for peer in peers:
                gauge.add_metric((peer.info.worker_id, peer.info.role.value), value(peer))
            yield gauge
