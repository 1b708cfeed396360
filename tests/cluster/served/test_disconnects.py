"""Clients leave in the midst of prefill: nothing of their requests stays at either end."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from benchmarks.served import Served
from tests.cluster.asking import BACK_S, LONG_ANSWER, inflight, serves, status, until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]

STAYS_S = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4)
"""How long each client waits; computing its prompt takes longer."""
FREED_S = 20.0
"""Far more than it takes: speed is measured by benchmarks.disconnects."""


def _leave(served: Served, number: int, stays_s: float) -> None:
    """Ask, and disconnect before there is an answer."""
    body = {
        **LONG_ANSWER,
        # No two begin alike, or the cache would have the rest.
        "prompt": f"{number} {stays_s} " + "word " * 1200,
        "n": 2 if number == 3 else 1,
        "temperature": 1,
        "stream": number % 2 == 0,
    }
    patience = httpx.Timeout(30, read=stays_s)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{served.url}/v1/completions", json=body, timeout=patience)


def _left(page: dict[str, Any]) -> list[str]:
    """What is still there of any request."""
    found = [f"{page['inflight_requests']} requests"] * bool(page["inflight_requests"])
    for worker in page["workers"]:
        load, transfer = worker["load"], worker["transfer"] or {"tickets": {}, "fenced_blocks": 0}
        amounts = {
            **{what: load[what] for what in ("running", "waiting", "kv_used")},
            "legs": worker["answering_legs"] + worker["prefill_legs"],
            "tickets": sum(transfer["tickets"].values()),
            "fenced blocks": transfer["fenced_blocks"],
        }
        found += [f"{worker['role']}: {n} {what}" for what, n in amounts.items() if n]
    return found


def test_clients_that_leave_during_prefill_free_both_ends(served: Served) -> None:
    until(lambda: serves(served), BACK_S, "service")
    for number, stays_s in enumerate(STAYS_S):
        _leave(served, number, stays_s)
        until(lambda: not _left(status(served)), FREED_S, f"{_left(status(served))} goes")
    assert inflight(served) == 0
    assert serves(served)
