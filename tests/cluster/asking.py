"""Requests to a running cluster, and questions about it."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx

from benchmarks.served import Served

SHORT = {
    "model": "baton-demo",
    "prompt": "def tokenize(text):\n",
    "max_tokens": 4,
    "temperature": 0,
    "ignore_eos": True,
}
LONG_PROMPT = {**SHORT, "prompt": "word " * 2900}
LONG_ANSWER = {**SHORT, "max_tokens": 4000}
BACK_S = 120.0
"""A restarted worker is ready again within this time."""


def status(served: Served) -> dict[str, Any]:
    page: dict[str, Any] = httpx.get(f"{served.url}/status").json()
    return page


def member(served: Served, role: str) -> dict[str, Any]:
    """A worker as the cluster sees it."""
    found: dict[str, Any] = next(m for m in status(served)["members"] if m["role"] == role)
    return found


def linked(served: Served, role: str) -> dict[str, Any]:
    """A worker as the router sees it; empty while it is not linked."""
    found = (w for w in status(served)["workers"] if w["role"] == role)
    return next(found, {})


def until(true: Callable[[], bool], timeout_s: float, what: str) -> float:
    """Waits; returns how many seconds it took."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() < began + timeout_s, f"not within {timeout_s} s: {what}"
        time.sleep(0.05)
    return time.monotonic() - began


def serves(served: Served) -> bool:
    try:
        answer = httpx.post(f"{served.url}/v1/completions", json=SHORT, timeout=30)
    except httpx.HTTPError:
        return False
    return answer.status_code == 200


def inflight(served: Served) -> int:
    return int(status(served)["inflight_requests"])


def busy(served: Served) -> int:
    """Legs on all workers."""
    return sum(w["load"]["running"] + w["load"]["waiting"] for w in status(served)["workers"])


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class InBackground:
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
