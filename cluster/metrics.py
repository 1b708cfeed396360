"""What a router is told of the cluster, as metrics: rendered at each scrape.

The controller opens no port. Its figures travel with the view that every router gets anyway, so
that one scrape of any router has them; where several routers are scraped, all say the same and
`max` is the right way to add them up. A controller that is gone shows by its silence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from baton.messages import ClusterView, Member, Role, WorkerState
from baton.settings import KvTransferSettings
from cluster.ports import ScalingRow
from cluster.tally import REASONS, PoolFigures

_POOL: Mapping[str, tuple[str, Callable[[PoolFigures], float]]] = {
    "scaler_holding": (
        "1 while a pool keeps its size because a measurement is missing, or the law failed.",
        lambda pool: pool.holds,
    ),
    "scaler_min_workers": ("Fewest workers that the law may want.", lambda pool: pool.least),
    "scaler_max_workers": ("Most workers that the law may want.", lambda pool: pool.most),
    "scaler_wanted_gpus": ("GPUs of the workers that are wanted.", lambda pool: pool.gpus),
}


@dataclass(frozen=True, slots=True)
class Told:
    """What a router was told last, and how many seconds ago."""

    view: ClusterView | None
    scaling: ScalingRow | None
    silent_s: float


class ClusterCollector(Collector):
    """Renders what `told` returns; bounds of KV transfers are the settings'."""

    def __init__(self, told: Callable[[], Told], bounds: KvTransferSettings) -> None:
        self._told = told
        self._bounds = bounds

    def collect(self) -> Iterator[Metric]:
        """All families; those of the scaler have rows once the router was told."""
        told = self._told()
        yield _one("controller_silence_seconds", "Since the controller was heard.", told.silent_s)
        yield from _workers(told.view)
        yield from _scaler(told)
        yield _one(
            "kv_transfer_floor_gb_per_second",
            "Slowest rate that the self-test of a pair may measure, 10^9 bytes a second.",
            self._bounds.min_gb_per_second,
        )
        yield _one(
            "kv_quarantine_max_ratio",
            "Share of a worker's KV blocks that may be quarantined until it is restarted.",
            self._bounds.quarantine_max_share,
        )


def _one(name: str, text: str, value: float | None) -> Metric:
    return GaugeMetricFamily(f"baton_{name}", text, value=value)


def _workers(view: ClusterView | None) -> Iterator[Metric]:
    members = () if view is None else view.members
    count = Counter((_working(m), m.state) for m in members)
    states = GaugeMetricFamily(
        "baton_scaler_workers", "Workers by state in the cluster's table.", labels=("role", "state")
    )
    for role in Role:
        for state in WorkerState:
            states.add_metric((role.value, state.value), count[role, state])
    yield states
    blocks = GaugeMetricFamily(
        "baton_worker_kv_blocks", "KV blocks that a worker has.", labels=("worker", "role")
    )
    for member in members:
        if member.info is not None:
            blocks.add_metric((member.worker_id, _working(member)), member.info.kv_blocks)
    yield blocks


def _working(member: Member) -> Role:
    """The pool that it works in, which need not be that of its place."""
    return member.role if member.info is None else member.info.role


def _scaler(told: Told) -> Iterator[Metric]:
    row = told.scaling
    wanted = GaugeMetricFamily(
        "baton_scaler_wanted_workers", "Workers wanted in a pool.", labels=("role",)
    )
    if row is not None:
        wanted.add_metric((Role.PREFILL.value,), row.prefill)
        wanted.add_metric((Role.DECODE.value,), row.decode)
    yield wanted
    figures = None if row is None else row.figures
    auto = None if row is None else float(row.mode == "auto")
    yield _one("scaler_auto", "1 while the law decides, 0 by hand.", auto)
    quiet_s = None if figures is None else figures.quiet_s + told.silent_s
    yield _one("scaler_quiet_seconds", "Since the last decision, else since the start.", quiet_s)
    budget = None if figures is None else figures.gpu_budget
    yield _one("scaler_budget_gpus", "GPUs that both pools may have; 0 = any.", budget)
    pools = {} if figures is None else {role: figures.pool(role) for role in Role}
    for name, (text, value) in _POOL.items():
        gauge = GaugeMetricFamily(f"baton_{name}", text, labels=("role",))
        for role, pool in pools.items():
            gauge.add_metric((role.value,), value(pool))
        yield gauge
    yield from _reasons(pools)


def _reasons(pools: Mapping[Role, PoolFigures]) -> Iterator[Metric]:
    now = GaugeMetricFamily(
        "baton_scaler_reason", "1 for the reason of a pool's size.", labels=("role", "reason")
    )
    decisions = CounterMetricFamily(
        "baton_scaler_decisions", "Decisions by reason.", labels=("role", "reason")
    )
    actions = CounterMetricFamily(
        "baton_scaler_actions",
        "Workers added, removed or moved to the other pool.",
        labels=("role", "action", "reason"),
    )
    for role, pool in pools.items():
        for reason in REASONS:
            now.add_metric((role.value, reason), reason == pool.reason)
        for reason, count in pool.decisions:
            decisions.add_metric((role.value, reason), count)
        for action, reason, count in pool.actions:
            actions.add_metric((role.value, action, reason), count)
    yield from (now, decisions, actions)
