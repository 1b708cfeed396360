"""What `baton bench` makes of answers that are not plain text."""

from __future__ import annotations

import os
import resource
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from baton.clock import MonotonicClock
from deploy.bench import endpoint
from deploy.bench.client import NO_FILE, Outcome, Target, ask
from deploy.reach import Reach
from tests.wire.bench_endpoint import Answering, Endpoint, Handler, serving

pytestmark = pytest.mark.wire


@pytest_asyncio.fixture
async def served() -> AsyncIterator[Endpoint]:
    async with serving() as endpoint:
        yield endpoint


async def asked(served: Endpoint, handler: Handler) -> Outcome:
    served.handler = handler
    outcome, target = Outcome(0, 0.0, 0.0, 6), Target(served.url, "tiny", chat=True)
    async with endpoint.session(Reach(served.url)) as session:
        await ask(session, target, target.body("hello", 4), outcome, MonotonicClock())
    return outcome


async def test_tokens_without_a_text_are_an_answer(served: Endpoint) -> None:
    async def silent(answer: Answering) -> web.StreamResponse:
        await answer.token("")
        return await answer.end()

    async def nothing(answer: Answering) -> web.StreamResponse:
        await answer.token("")
        return await answer.end({"prompt_tokens": 7, "completion_tokens": 0})

    found = await asked(served, silent)
    assert (found.failure, found.output_tokens, found.ttft_s) == ("", 4, None)
    assert (await asked(served, nothing)).failure == "empty answer"


@pytest.mark.parametrize(
    "delta",
    [{"tool_calls": [{"index": 0}]}, {"reasoning": "hm"}, {"reasoning_content": "hm"}],
)
async def test_whatever_brings_tokens_counts(served: Endpoint, delta: dict[str, Any]) -> None:
    async def speaking(answer: Answering) -> web.StreamResponse:
        # No error, although some say so in each chunk.
        await answer.event({"choices": [{"delta": delta}], "error": None})
        return await answer.end()

    found = await asked(served, speaking)
    assert found.failure == ""
    assert found.ttft_s is not None


async def test_files_that_are_used_up_are_not_the_endpoints_fault(served: Endpoint) -> None:
    async def never(_: Answering) -> web.StreamResponse:
        raise AssertionError

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = os.dup(0)
    resource.setrlimit(resource.RLIMIT_NOFILE, (used, limits[1]))
    try:
        found = await asked(served, never)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        os.close(used)
    assert found.failure == NO_FILE


@pytest.mark.parametrize(
    ("soft", "hard", "raised", "open_at_once"),
    [
        (256, 4096, 1064, 1000),
        (256, resource.RLIM_INFINITY, 1064, 1000),
        (256, 512, 512, 448),
        (4096, 4096, None, 1000),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, None, 1000),
    ],
)
def test_the_limit_of_files_bounds_what_is_in_flight(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, raised: int | None, open_at_once: int
) -> None:
    put: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: put.append(limits))
    assert endpoint.connections(1000) == open_at_once
    assert put == ([] if raised is None else [(raised, hard)])
