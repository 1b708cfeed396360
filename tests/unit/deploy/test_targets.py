"""Prometheus is told of every router and worker, and what to call them."""

from __future__ import annotations

from dataclasses import replace

from baton.ids import RouterId, WorkerId
from baton.messages import ClusterView, Member, Role, WorkerState
from cluster.ports import RouterRow
from deploy.targets import targets
from tests.unit.cluster.samples import info

D = Role.DECODE
WORKER = replace(info("decode-0", 1, D), metrics_address="h:9")
VIEW = ClusterView(
    1,
    (
        Member(WorkerId("decode-0"), D, WorkerState.READY, WORKER),
        Member(WorkerId("decode-1"), D, WorkerState.STARTING),
        Member(WorkerId("decode-2"), D, WorkerState.READY, info("decode-2", 1, D)),
    ),
)


def _row(name: str, address: str) -> RouterRow:
    return RouterRow(
        RouterId(name), WorkerState.READY, "http://h:1", "", 0, 5, metrics_address=address
    )


def test_all_routers_and_the_workers_that_export_metrics() -> None:
    found = targets(
        "c", VIEW, (_row("router-0", "h:1"), _row("router-1", "h:2")), "router-1", "h:2"
    )
    assert found == [
        {"targets": ["h:1"], "labels": _labels("baton-router", router="router-0")},
        {"targets": ["h:2"], "labels": _labels("baton-router", router="router-1")},
        {"targets": ["h:9"], "labels": _labels("baton-worker", worker="decode-0", role="decode")},
    ]


def _labels(job: str, **labels: str) -> dict[str, str]:
    return {"cluster": "c", "job": job, **labels}


def test_the_router_that_is_asked_is_there_before_the_controller_has_told_of_it() -> None:
    rows = (_row("router-0", "h:1"), _row("router-1", ""))
    told = {
        g["targets"][0]: g["labels"]["router"] for g in targets("c", None, rows, "router-1", "h:2")
    }
    assert told == {"h:1": "router-0", "h:2": "router-1"}
    assert targets("c", None, (), "router-0", "") == []


def test_a_worker_is_of_the_pool_that_it_works_in() -> None:
    moved = replace(WORKER, role=Role.PREFILL)
    view = ClusterView(2, (Member(WorkerId("decode-0"), D, WorkerState.READY, moved),))
    (found,) = targets("c", view, (), "router-0", "")
    assert found["labels"]["role"] == "prefill"
