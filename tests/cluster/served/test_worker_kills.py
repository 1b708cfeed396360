"""A worker is killed under a request: a typed error in time, and service again afterwards."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from benchmarks.served import Served

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
LONG = {
    "model": "baton-demo",
    "prompt": "def tokenize(text):\n",
    "max_tokens": 4000,
    "temperature": 0,
    "ignore_eos": True,
}
SHORT = {**LONG, "max_tokens": 4}
_BACK_S = 120


def _worker(served: Served, role: str) -> dict[str, Any]:
    members = httpx.get(f"{served.url}/status").json()["members"]
    found: dict[str, Any] = next(m for m in members if m["role"] == role)
    return found


def _until(true: Callable[[], bool], timeout_s: float, what: str) -> None:
    give_up = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < give_up, f"not within {timeout_s} s: {what}"
        time.sleep(0.2)


def _serves(served: Served) -> bool:
    try:
        answer = httpx.post(f"{served.url}/v1/completions", json=SHORT, timeout=30)
    except httpx.HTTPError:
        return False
    return answer.status_code == 200


class _InBackground:
    """One request in a thread, its answer kept."""

    def __init__(self, served: Served, body: dict[str, Any]) -> None:
        self.answer: httpx.Response | None = None
        self._thread = threading.Thread(target=self._ask, args=(served.url, body))
        self._thread.start()

    def _ask(self, url: str, body: dict[str, Any]) -> None:
        self.answer = httpx.post(f"{url}/v1/completions", json=body, timeout=60)

    def wait(self, timeout_s: float) -> httpx.Response:
        self._thread.join(timeout_s)
        assert self.answer is not None, f"no answer within {timeout_s} s"
        return self.answer


@pytest.mark.parametrize("victim", ["pid", "engine_pid"])
def test_the_decode_worker_dies(served: Served, victim: str) -> None:
    _until(lambda: _serves(served), _BACK_S, "service")
    worker = _worker(served, "decode")
    asked = _InBackground(served, LONG)
    _until(lambda: _inflight(served) == 1, 10, "the request runs")
    time.sleep(0.5)
    os.kill(worker[victim], signal.SIGKILL)
    answer = asked.wait(20)
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "worker_lost"
    assert answer.headers["x-baton-reason"] == "worker_lost"
    _until(lambda: _serves(served), _BACK_S, "service after the restart")
    after = _worker(served, "decode")
    assert after["pid"] != worker["pid"] or after["engine_pid"] != worker["engine_pid"]
    _until(lambda: not _lives(worker["engine_pid"]), 5, "the old engine is gone")


def test_the_prefill_worker_dies(served: Served) -> None:
    _until(lambda: _serves(served), _BACK_S, "service")
    worker = _worker(served, "prefill")
    asked = _InBackground(served, {**SHORT, "prompt": "word " * 2900})
    _until(lambda: _inflight(served) == 1, 10, "the request runs")
    os.kill(worker["pid"], signal.SIGKILL)
    answer = asked.wait(20)
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "worker_lost"
    _until(lambda: _serves(served), _BACK_S, "service without or with a new prefill worker")
    _until(lambda: _worker(served, "prefill")["state"] == "ready", _BACK_S, "a new one")
    _until(lambda: not _lives(worker["engine_pid"]), 5, "the old engine is gone")
    assert _serves(served)


def test_a_client_that_leaves_frees_both_ends(served: Served) -> None:
    _until(lambda: _serves(served), _BACK_S, "service")
    with httpx.stream(
        "POST", f"{served.url}/v1/completions", json={**LONG, "stream": True}, timeout=30
    ) as answer:
        next(answer.iter_lines())
    _until(lambda: _inflight(served) == 0, 5, "the router forgets it")
    _until(lambda: _busy(served) == 0, 5, "the workers forget it")


def _inflight(served: Served) -> int:
    return int(httpx.get(f"{served.url}/status").json()["inflight_requests"])


def _busy(served: Served) -> int:
    workers = httpx.get(f"{served.url}/status").json()["workers"]
    return sum(w["load"]["running"] + w["load"]["waiting"] for w in workers)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
