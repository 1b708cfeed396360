"""Equal prompts of two tenants: neither can tell that the other one has asked.

What a worker had cached is vLLM's own count, carried in its load reports.
"""

from __future__ import annotations

import httpx
import pytest

from benchmarks.served import Served
from tests.cluster.asking import inflight, status, until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
PROMPT = " ".join(f"w{(4242 + n * 31) % 9973}" for n in range(700))
MOST_S = 10


def _looked_up(served: Served) -> tuple[int, int]:
    """Prompt tokens looked up and found in the caches of all workers."""
    loads = [worker["load"] for worker in status(served)["workers"]]
    asked = sum(load["prefix_queried_tokens"] for load in loads)
    return asked, sum(load["prefix_hit_tokens"] for load in loads)


def _found(served: Served, tenant: str, **more: str) -> int:
    """Tokens of the prompt that were in a cache when this tenant asked."""
    asked, found = _looked_up(served)
    body = {"model": "baton-demo", "prompt": PROMPT, "max_tokens": 2, "temperature": 0, **more}
    headers = {"x-baton-tenant": tenant}
    answer = httpx.post(f"{served.url}/v1/completions", json=body, headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text
    until(lambda: _looked_up(served)[0] > asked and not inflight(served), MOST_S, "it is told")
    return _looked_up(served)[1] - found


def test_the_second_tenant_finds_nothing_of_the_first(served: Served) -> None:
    assert _found(served, "team-a") == 0
    again = _found(served, "team-a")
    assert again > 500
    assert _found(served, "team-b") == 0
    assert _found(served, "team-b", cache_salt="team-a") == 0
    assert _found(served, "team-b") >= again
