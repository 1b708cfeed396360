"""What an operator should look at first, in plain sentences. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

MOST = 12
"""More findings than that are counted, not told."""


def attention(page: Mapping[str, Any]) -> list[dict[str, str]]:
    """Findings about the page's own rows: what each is about, which stays while its text changes,
    and a level, bad or watch. Bad ones come first."""
    found = [*_router(page), *_promises(page), *_pools(page), *_workers(page)]
    found.sort(key=lambda one: one["level"])
    left = len(found) - MOST
    return [*found[:MOST], *([_one("watch", "more", f"{left} more")] if left > 0 else [])]


def _one(level: str, about: str, text: str) -> dict[str, str]:
    return {"level": level, "about": about, "text": text}


def _router(page: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    if page["router"]["draining"]:
        yield _one("watch", "router", f"{page['router']['id']} drains: it takes no new requests")
    if page["requests"]["refused_per_s"] > 0:
        yield _one(
            "watch", "refusals", f"{page['requests']['refused_per_s']:.1f} requests/s are refused"
        )


def _promises(page: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    aimed = page["slo"]["percentile"]
    for row in page["attainment"]:
        for name, title in (("ttft", "TTFT"), ("tpot", "TPOT")):
            kept = row[name]
            if kept is not None and kept < aimed:
                text = f"{title} is kept for {kept:.1%} of {row['name']}; aimed at {aimed:.1%}"
                yield _one("bad", f"{name} of {row['name']}", text)


def _pools(page: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    for pool in page["pools"]:
        if pool["workers"] and not pool["ready"]:
            yield _one("bad", f"pool {pool['role']}", f"no {pool['role']} worker is ready")


def _workers(page: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    for worker in page["workers"]:
        name, transfer = worker["id"], worker["transfer"] or {}
        if worker["state"] == "ready" and not worker["up"]:
            yield _one("bad", name, f"{name} is ready, and out of this router's reach")
        elif worker["state"] != "ready":
            detail = f": {worker['detail']}" if worker["detail"] else ""
            yield _one("watch", name, f"{name} is {worker['state']}{detail}")
        if blocks := transfer.get("quarantined_blocks"):
            yield _one("bad", f"blocks of {name}", f"{blocks} KV blocks of {name} are quarantined")
