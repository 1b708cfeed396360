"""A prefill engine is stopped in the middle of a transfer: its supervisor kills it.

Nothing else would prove to decode that no write is left: a stopped process resumes its writes.
"""

from __future__ import annotations

import os
import signal
import time

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.served import Served
from tests.cluster.asking import (
    BACK_S,
    LONG_PROMPT,
    InBackground,
    linked,
    lives,
    member,
    serves,
    until,
)
from tests.cluster.served.conftest import DEADLINE_S

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]


def _metric(served: Served, name: str, **labels: str) -> float:
    """0 for a row that is not there."""
    text = httpx.get(f"{served.url}/metrics").text
    samples = [s for f in text_string_to_metric_families(text) for s in f.samples]
    rows = (s for s in samples if s.name == name and labels.items() <= s.labels.items())
    return sum(row.value for row in rows)


def _received(served: Served) -> float:
    return _metric(served, "baton_kv_transfer_received_total", role="decode")


def _transfer(served: Served, role: str) -> dict:
    return linked(served, role).get("transfer") or {}


def _under_way(served: Served) -> bool:
    ends = {ticket.partition(".")[2] for ticket in _transfer(served, "decode").get("tickets", ())}
    return bool(ends & {"registered", "streaming"})


def _all_back(served: Served) -> bool:
    """Whether no block of decode is held, by anybody."""
    worker, transfer = linked(served, "decode"), _transfer(served, "decode")
    free = worker["load"]["kv_used"] == 0 and worker["load"]["waiting"] == 0
    return free and not transfer["tickets"] and not transfer["fenced_blocks"]


def _unfenced(served: Served) -> bool:
    """Whether no block of decode waits for a proof."""
    transfer = _transfer(served, "decode")
    return not transfer["tickets"] and not transfer["fenced_blocks"]


def _warm_up(served: Served) -> None:
    until(lambda: serves(served), BACK_S, "service")
    body = {**LONG_PROMPT, "prompt": "name " * 600}
    assert httpx.post(f"{served.url}/v1/completions", json=body, timeout=60).status_code == 200
    until(lambda: _all_back(served), 10, "the first transfers are over")


def test_a_stopped_prefill_is_killed_and_nothing_is_lost(served: Served) -> None:
    _warm_up(served)
    before, kept = member(served, "prefill"), member(served, "decode")
    told = len(served.lines)
    asked = InBackground(served, {**LONG_PROMPT, "prompt": "stop " * 2900})
    until(lambda: _under_way(served), 15, "decode has registered")
    os.kill(before["engine_pid"], signal.SIGSTOP)
    stopped = time.monotonic()
    until(lambda: not lives(before["engine_pid"]), DEADLINE_S + 6, "the engine is killed")
    killed_s = time.monotonic() - stopped
    assert killed_s > DEADLINE_S / 2
    until(lambda: not lives(before["pid"]), 5, "its worker is killed")
    until(lambda: _unfenced(served), 5, "decode has its blocks back")
    back_s = time.monotonic() - stopped
    assert asked.wait(30).status_code == 200
    until(lambda: _all_back(served), 10, "nobody holds a block")
    until(lambda: member(served, "prefill")["state"] == "ready", BACK_S, "a new prefill")
    assert member(served, "prefill")["restarts"] == before["restarts"] + 1
    assert member(served, "decode")["pid"] == kept["pid"]
    received = _received(served)
    until(lambda: serves(served), BACK_S, "service")
    body = {**LONG_PROMPT, "prompt": "other " * 600}
    assert httpx.post(f"{served.url}/v1/completions", json=body, timeout=60).status_code == 200
    until(lambda: _received(served) > received, 5, "its KV came from the new prefill")
    assert _metric(served, "baton_kv_quarantined_blocks") == 0
    text = "\n".join(served.lines[told:])
    print(f"killed {killed_s:.1f} s after the stop, blocks back after {back_s:.1f} s", text)
    assert "gave decode-0 no proof" in text
    assert "was not reached (peers_dead)" not in text
