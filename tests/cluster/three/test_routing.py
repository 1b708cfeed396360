"""Prefixes are found again by the worker that has them, and a hot one is shared.

What a worker had cached is vLLM's own count, carried in its load reports.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from benchmarks.served import Served
from tests.cluster.asking import inflight, serves, status, until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]
SESSIONS, TURNS = 6, 3
FIRST_WORDS, TURN_WORDS = 700, 60


def _ask(served: Served, prompt: str) -> dict[str, Any]:
    """The route of one short answer, as the router explains it."""
    body = {
        "model": "baton-demo",
        "prompt": prompt,
        "max_tokens": 2,
        "temperature": 0,
        "ignore_eos": True,
    }
    asked = {"x-baton-explain": "1"}
    answer = httpx.post(f"{served.url}/v1/completions", json=body, timeout=60, headers=asked)
    assert answer.status_code == 200, answer.text
    assert "prefill=" in answer.headers["x-baton-route"]
    page = httpx.get(f"{served.url}/explain/{answer.headers['x-request-id']}").json()
    plan: dict[str, Any] = page["plans"][-1]
    return plan


def _words(seed: int, count: int) -> str:
    return " ".join(f"w{(seed * 7919 + n * 31) % 9973}" for n in range(count))


def _hits(served: Served) -> dict[str, tuple[int, int]]:
    """Prompt tokens looked up and found by each prefill worker's own cache."""
    return {
        w["worker_id"]: (w["load"]["prefix_queried_tokens"], w["load"]["prefix_hit_tokens"])
        for w in status(served)["workers"]
        if w["role"] == "prefill"
    }


def _blocks(served: Served) -> int:
    rows = status(served)["routing"]["workers"].values()
    return sum(row["cached_blocks"] for row in rows)


def test_the_turns_of_a_session_find_their_prefix_again(served: Served) -> None:
    talks = [_words(seed, FIRST_WORDS) for seed in range(SESSIONS)]
    went: list[set[str]] = [set() for _ in talks]
    cached = asked = 0
    for turn in range(TURNS):
        before = _hits(served)
        for number, talk in enumerate(talks):
            plan = _ask(served, talk)
            went[number].add(plan["prefill"])
            talks[number] = f"{talk} {_words(100 * turn + number, TURN_WORDS)}"
        until(lambda: inflight(served) == 0, 10, "every answer is complete")
        if turn:
            after = _hits(served)
            asked += sum(after[w][0] - before[w][0] for w in after)
            cached += sum(after[w][1] - before[w][1] for w in after)
    assert [len(workers) for workers in went] == [1] * SESSIONS
    assert len(set().union(*went)) == 2, "sessions are spread over both workers"
    # What is new in a turn, and the rest of a block, cannot be cached.
    assert cached > 0.6 * asked
    assert _blocks(served) > 0


def test_what_the_router_knows_is_what_the_worker_finds(served: Served) -> None:
    talk = _words(77, FIRST_WORDS)
    first = _ask(served, talk)
    until(lambda: _ask_nothing_new(served, talk) > 0, 10, "the news has come")
    again = _ask(served, talk)
    assert again["prefill"] == first["prefill"]
    part = again["why"]["prefill"]
    assert (part["fresh"], part["why"]) == (True, "warmest")


def _ask_nothing_new(served: Served, talk: str) -> int:
    part = _ask(served, talk)["why"]["prefill"]
    tokens = [c["cached_tokens"] for c in part["candidates"]]
    return max(tokens)


def test_a_prefix_too_hot_for_one_worker_is_on_both(served: Served) -> None:
    shared = _words(5, FIRST_WORDS)
    prompts = [f"{shared} {_words(1000 + n, 300)}" for n in range(16)]
    with ThreadPoolExecutor(8) as pool:
        plans = list(pool.map(lambda prompt: _ask(served, prompt), prompts))
    share = {w: sum(p["prefill"] == w for p in plans) for w in {p["prefill"] for p in plans}}
    assert len(share) == 2, share
    assert min(share.values()) >= 3, share
    until(lambda: inflight(served) == 0, 10, "every answer is complete")


def test_bad_requests_do_not_hurt_the_router(served: Served) -> None:
    for body in (b"", b"{", b"[]", b'{"prompt": 7}'):
        answer = httpx.post(f"{served.url}/v1/completions", content=body)
        assert 400 <= answer.status_code < 500
    assert httpx.get(f"{served.url}/explain/nobody").status_code == 404
    assert serves(served)
