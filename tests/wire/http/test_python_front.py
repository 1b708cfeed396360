"""vLLM's Python API server in a process of its own, over the engine link."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from baton.errors import BatonError, Reason
from tests.wire.fakes import Script
from tests.wire.http.support import TEXT, until
from tests.wire.linked import Linked
from tests.wire.test_rust_front import words

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def linked(python_front: Linked) -> AsyncIterator[Linked]:
    python_front.heart.script = Script(tokens=words(python_front))
    yield python_front
    await until(lambda: not python_front.heart.live and not python_front.links.open)


async def ask(linked: Linked, **body: object):
    asked = {"model": "demo", "prompt": "Hi", "max_tokens": 64, **body}
    return await linked.client.post("/v1/completions", json=asked)


async def test_a_completion_is_served(linked: Linked) -> None:
    answer = (await ask(linked)).json()
    assert answer["choices"][0]["text"] == TEXT
    assert answer["usage"]["completion_tokens"] == len(words(linked)) + 1


async def test_a_refusal_keeps_its_type(linked: Linked) -> None:
    linked.heart.script = Script(
        refuse_submit=BatonError(Reason.QUEUE_FULL, "full", retry_after_s=2.4)
    )
    answer = await ask(linked)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "3")
    assert answer.json()["error"]["code"] == "queue_full"


async def test_a_stream_that_fails_says_why_and_spares_its_neighbours(linked: Linked) -> None:
    tokens = words(linked)
    linked.heart.script = Script(tokens=tokens, delay_s=0.02)
    spared = asyncio.ensure_future(ask(linked))
    await until(lambda: len(linked.links.open) == 1)
    linked.heart.script = Script(
        tokens=tokens, fail_with=BatonError(Reason.ENGINE_FAILED, "dead"), fail_after=2
    )
    answer = await ask(linked, stream=True)
    assert answer.status_code == 200
    assert '"code": "engine_failed"' in answer.text or '"code":"engine_failed"' in answer.text
    assert (await spared).json()["choices"][0]["text"] == TEXT


async def test_several_answers_fail_as_one(linked: Linked) -> None:
    linked.heart.script = Script(
        tokens=words(linked), fail_with=BatonError(Reason.DEADLINE_EXCEEDED, "late"), fail_after=2
    )
    answer = await ask(linked, n=3)
    assert answer.status_code == BatonError(Reason.DEADLINE_EXCEEDED, "").rule.http_status


async def test_clients_that_leave_free_their_requests(linked: Linked) -> None:
    linked.heart.script = Script(tokens=words(linked), endless=True, delay_s=0.01)
    linked.heart.aborted.clear()
    body = {"model": "demo", "prompt": "Hi", "max_tokens": 1000, "stream": True}
    async with linked.client.stream("POST", "/v1/completions", json=body) as answer:
        await anext(answer.aiter_bytes())
    await until(lambda: len(linked.heart.aborted) == 1, 5)
