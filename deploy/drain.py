"""`baton drain`: a worker finishes what it has, ends, and is started anew; one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from baton.errors import BatonError, Reason
from deploy.orders import Orders

Page = Callable[[], Mapping[str, Any]]
"""The status page of a router."""
Say = Callable[[str], None]
_LOOK_EVERY_S = 0.25


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one worker may take to be back, and how to wait."""

    most_s: float
    pause: Callable[[float], None] = time.sleep
    now: Callable[[], float] = time.monotonic


def workers_of(page: Mapping[str, Any]) -> list[str]:
    """Every worker of the cluster, in the order in which a rolling restart takes them."""
    return [str(m["worker_id"]) for m in page.get("members", ())]


def drain(
    worker_ids: Sequence[str], orders: Orders, page: Page, say: Say, patience: Patience
) -> None:
    """Drains these workers, the next once the last is back.

    Raises BatonError when one is not there, or is not back in time.
    """
    for worker_id in worker_ids:
        before = orders.give({"do": "drain", "worker_id": worker_id})["incarnation"]
        _follow(worker_id, int(before), page, say, patience)


def _follow(worker_id: str, before: int, page: Page, say: Say, patience: Patience) -> None:
    began, shown = patience.now(), ""
    while True:
        line, is_back = _state(page(), worker_id, before)
        if line != shown:
            say(f"{worker_id}: {line}")
            shown = line
        if is_back:
            return
        if patience.now() - began > patience.most_s:
            message = f"{worker_id} is not back after {patience.most_s:.0f} s: {line}"
            raise BatonError(Reason.STARTING, message)
        patience.pause(_LOOK_EVERY_S)


def _state(page: Mapping[str, Any], worker_id: str, before: int) -> tuple[str, bool]:
    """A worker in a few words, and whether a later start of it is ready."""
    row = next((m for m in page.get("members", ()) if m["worker_id"] == worker_id), None)
    if row is None:
        return "not listed", False
    later, state = (row.get("incarnation") or 0) > before, str(row["state"])
    if state == "ready":
        return ("ready", True) if later else ("asked", False)
    if state == "draining":
        return f"draining, {_legs(page, worker_id)} requests left", False
    return f"{state}, {row['detail']}" if row.get("detail") else state, False


def _legs(page: Mapping[str, Any], worker_id: str) -> int:
    rows = (w for w in page.get("workers", ()) if w["worker_id"] == worker_id)
    loads = [row["load"] for row in rows]
    return sum(load["running"] + load["waiting"] for load in loads)
