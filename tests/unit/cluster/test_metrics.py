"""A router shows as metrics what it was told of the cluster."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from baton.ids import WorkerId
from baton.messages import ClusterView, Member, Role, WorkerState
from baton.settings import KvTransferSettings
from cluster.metrics import ClusterCollector, Told
from cluster.ports import ScalingRow
from cluster.tally import PoolFigures, ScalingFigures
from tests.unit.cluster.samples import info

P, D = Role.PREFILL, Role.DECODE
BOUNDS = KvTransferSettings(min_gb_per_second=1.5, quarantine_max_share=0.2)


def _registry(told: Told) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(ClusterCollector(lambda: told, BOUNDS))
    return registry


def _value(told: Told, name: str, **labels: str) -> float | None:
    return _registry(told).get_sample_value(f"baton_{name}", labels)


def test_workers_are_counted_by_state_those_that_are_none_too() -> None:
    ready = Member(WorkerId("decode-0"), D, WorkerState.READY, info("decode-0", 1, D))
    view = ClusterView(1, (ready, Member(WorkerId("decode-1"), D, WorkerState.STARTING)))
    told = Told(view, None, 2.5)
    assert _value(told, "scaler_workers", role="decode", state="ready") == 1
    assert _value(told, "scaler_workers", role="decode", state="starting") == 1
    assert _value(told, "scaler_workers", role="decode", state="draining") == 0
    assert _value(told, "scaler_workers", role="prefill", state="ready") == 0
    blocks = _value(told, "worker_kv_blocks", worker="decode-0", role="decode")
    assert ready.info is not None
    assert blocks == ready.info.kv_blocks > 0
    assert _value(told, "controller_silence_seconds") == 2.5


def test_a_worker_counts_in_the_pool_that_it_works_in() -> None:
    lent = Member(WorkerId("decode-0"), D, WorkerState.READY, info("decode-0", 1, P))
    told = Told(ClusterView(1, (lent,)), None, 0.0)
    assert _value(told, "scaler_workers", role="prefill", state="ready") == 1
    assert _value(told, "scaler_workers", role="decode", state="ready") == 0
    assert _value(told, "worker_kv_blocks", worker="decode-0", role="prefill")


def test_the_scaler_shows_what_it_wants_and_why() -> None:
    pool = PoolFigures("blind", (("blind", 3),), (("add", "load", 2),), 1, 8, 16.0)
    row = ScalingRow("auto", 2, 5, figures=ScalingFigures(PoolFigures("steady"), pool, 4.0, 32))
    told = Told(None, row, 1.0)
    assert _value(told, "scaler_wanted_workers", role="prefill") == 2
    assert _value(told, "scaler_wanted_workers", role="decode") == 5
    assert _value(told, "scaler_holding", role="decode") == 1
    assert _value(told, "scaler_holding", role="prefill") == 0
    assert _value(told, "scaler_reason", role="decode", reason="blind") == 1
    assert _value(told, "scaler_reason", role="decode", reason="load") == 0
    assert _value(told, "scaler_decisions_total", role="decode", reason="blind") == 3
    labels = {"role": "decode", "action": "add", "reason": "load"}
    assert _value(told, "scaler_actions_total", **labels) == 2
    assert _value(told, "scaler_max_workers", role="decode") == 8
    assert _value(told, "scaler_wanted_gpus", role="decode") == 16
    assert _value(told, "scaler_budget_gpus") == 32
    assert _value(told, "scaler_auto") == 1
    # The time goes on while nobody speaks.
    assert _value(told, "scaler_quiet_seconds") == 5.0


def test_a_router_that_was_told_nothing_yet_has_no_rows_of_the_scaler() -> None:
    told = Told(None, None, 0.5)
    assert _value(told, "scaler_wanted_workers", role="prefill") is None
    assert _value(told, "scaler_auto") is None


def test_bounds_of_transfers_are_there_for_alerts() -> None:
    told = Told(None, None, 0.0)
    assert _value(told, "kv_transfer_floor_gb_per_second") == 1.5
    assert _value(told, "kv_quarantine_max_ratio") == 0.2
