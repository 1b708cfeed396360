"""A worker is killed under a request: its answer comes all the same, and the worker comes back."""

from __future__ import annotations

import os
import signal
import time

import httpx
import pytest

from benchmarks.served import Served
from tests.cluster.asking import (
    BACK_S,
    LONG_ANSWER,
    LONG_PROMPT,
    InBackground,
    busy,
    inflight,
    lives,
    member,
    serves,
    until,
)

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


ANSWER = {**LONG_ANSWER, "max_tokens": 500}


def _text(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    text: str = answer.json()["choices"][0]["text"]
    return text


@pytest.mark.parametrize("victim", ["pid", "engine_pid"])
def test_the_decode_worker_dies(served: Served, victim: str) -> None:
    until(lambda: serves(served), BACK_S, "service")
    uninterrupted = _text(httpx.post(f"{served.url}/v1/completions", json=ANSWER, timeout=60))
    worker = member(served, "decode")
    asked = InBackground(served, ANSWER)
    until(lambda: inflight(served) == 1, 10, "the request runs")
    time.sleep(0.5)
    os.kill(worker[victim], signal.SIGKILL)
    # The prefill worker stands in, after the tokens that there are.
    assert _text(asked.wait(60)) == uninterrupted
    until(lambda: serves(served), BACK_S, "service after the restart")
    after = member(served, "decode")
    assert after["pid"] != worker["pid"] or after["engine_pid"] != worker["engine_pid"]
    until(lambda: not lives(worker["engine_pid"]), 5, "the old engine is gone")


def test_the_prefill_worker_dies(served: Served) -> None:
    until(lambda: serves(served), BACK_S, "service")
    worker = member(served, "prefill")
    asked = InBackground(served, LONG_PROMPT)
    until(lambda: inflight(served) == 1, 10, "the request runs")
    os.kill(worker["pid"], signal.SIGKILL)
    assert _text(asked.wait(60))
    until(lambda: serves(served), BACK_S, "service without or with a new prefill worker")
    until(lambda: member(served, "prefill")["state"] == "ready", BACK_S, "a new one")
    until(lambda: not lives(worker["engine_pid"]), 5, "the old engine is gone")
    assert serves(served)


def test_a_client_that_leaves_frees_both_ends(served: Served) -> None:
    until(lambda: serves(served), BACK_S, "service")
    with httpx.stream(
        "POST", f"{served.url}/v1/completions", json={**LONG_ANSWER, "stream": True}, timeout=30
    ) as answer:
        next(answer.iter_lines())
    until(lambda: inflight(served) == 0, 5, "the router forgets it")
    until(lambda: busy(served) == 0, 5, "the workers forget it")
