"""What there is to scrape, as Prometheus's HTTP service discovery wants to read it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from baton.messages import ClusterView, Member
from cluster.ports import RouterRow


def targets(
    cluster: str,
    view: ClusterView | None,
    routers: Sequence[RouterRow],
    own_name: str,
    own_address: str,
) -> list[dict[str, Any]]:
    """One group for each router and each worker that exports metrics.

    `own_name`, `own_address`: of the router that is asked. The controller is no target: its figures
    are among those of every router.
    """
    # The controller may not have told this router of itself yet.
    known = {row.metrics_address: str(row.router_id) for row in routers if row.metrics_address}
    if own_address:
        known.setdefault(own_address, own_name)
    groups = [_group(cluster, at, job="baton-router", router=name) for at, name in known.items()]
    return [*groups, *_workers(cluster, () if view is None else view.members)]


def _workers(cluster: str, members: Iterable[Member]) -> Iterable[dict[str, Any]]:
    for member in members:
        if member.info is not None and member.info.metrics_address:
            yield _group(
                cluster,
                member.info.metrics_address,
                job="baton-worker",
                worker=member.worker_id,
                role=member.info.role.value,
            )


def _group(cluster: str, address: str, **labels: str) -> dict[str, Any]:
    return {"targets": [address], "labels": {"cluster": cluster, **labels}}
