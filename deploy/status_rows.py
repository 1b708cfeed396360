"""Routers and members of a cluster as /status shows them, in what JSON can hold."""

from __future__ import annotations

from typing import Any

from cluster.ports import RouterRow


def router_row(row: RouterRow) -> dict[str, Any]:
    """One router."""
    return {
        "router_id": row.router_id,
        "state": row.state.value,
        "detail": row.detail,
        "restarts": row.restarts,
        "incarnation": row.restarts + 1,
        "address": row.url,
        "pid": row.pid,
        "replaced": row.replaced,
    }


def member_row(member: Any) -> dict[str, Any]:
    """One worker, as the controller knows it."""
    return {
        "worker_id": member.worker_id,
        "role": member.role.value,
        "state": member.state.value,
        "detail": member.detail,
        "restarts": member.restarts,
        "incarnation": member.info.incarnation if member.info else None,
        "address": member.info.address if member.info else None,
        "pid": member.info.pid if member.info else None,
        "engine_pid": member.info.engine_pid if member.info else None,
    }
