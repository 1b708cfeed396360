"""`baton drain`: workers and routers finish what they have, end, and are started anew, in turn."""

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


def everybody(page: Mapping[str, Any]) -> list[str]:
    """All workers and routers, in the order in which a rolling restart takes them."""
    routers = (str(r["router_id"]) for r in page.get("routers", ()) if not r["replaced"])
    return [*(str(m["worker_id"]) for m in page.get("members", ())), *routers]


def drain(names: Sequence[str], orders: Orders, page: Page, say: Say, patience: Patience) -> None:
    """Drains these workers and routers, the next once the last is back.

    Raises BatonError when one is not there, or is not back in time.
    """
    for name in names:
        before = orders.give({"do": "drain", "name": name})["incarnation"]
        _follow(name, int(before), page, say, patience)


def _follow(name: str, before: int, page: Page, say: Say, patience: Patience) -> None:
    began, shown = patience.now(), ""
    while True:
        line, is_back = _look(page, name, before)
        if line != shown:
            say(f"{name}: {line}")
            shown = line
        if is_back:
            return
        if patience.now() - began > patience.most_s:
            message = f"{name} is not back after {patience.most_s:.0f} s: {line}"
            raise BatonError(Reason.STARTING, message)
        patience.pause(_LOOK_EVERY_S)


def _look(page: Page, name: str, before: int) -> tuple[str, bool]:
    try:
        return _state(page(), name, before)
    except BatonError as error:
        # The router may be the one that is replaced, or busy for a moment.
        return error.message, False


def _state(page: Mapping[str, Any], name: str, before: int) -> tuple[str, bool]:
    """A worker or router in a few words, and whether a later start of it is ready."""
    rows = [m for m in page.get("members", ()) if m["worker_id"] == name]
    # Of a router there are two for a while. The old one first: it has to be gone.
    rows += sorted(
        (r for r in page.get("routers", ()) if r["router_id"] == name),
        key=lambda r: int(r["incarnation"]),
    )
    if not rows:
        return "not listed", False
    row = rows[0]
    later, state = (row.get("incarnation") or 0) > before, str(row["state"])
    if state == "ready" and later:
        return "ready", True
    # It may be ready still: it has been asked, and says so at its next look.
    words = ["asked" if state == "ready" else state, str(row.get("detail") or "")]
    if "worker_id" in row and state == "draining":
        words[1] = f"{_legs(page, name)} requests left"
    return ", ".join(filter(None, words)), False


def _legs(page: Mapping[str, Any], worker_id: str) -> int:
    rows = (w for w in page.get("workers", ()) if w["worker_id"] == worker_id)
    loads = [row["load"] for row in rows]
    return sum(load["running"] + load["waiting"] for load in loads)
