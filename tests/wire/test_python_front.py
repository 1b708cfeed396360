"""vLLM's Python API server in a process of its own, over the engine link."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from baton.errors import BatonError, Reason
from baton.settings import Settings
from deploy.front_commands import python_launch
from tests.wire.fakes import Script
from tests.wire.http.support import TEXT, until
from tests.wire.linked import SETTINGS, Linked, model
from tests.wire.test_rust_front import words
from tests.wire.test_tether import runs

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def linked() -> AsyncIterator[Linked]:
    linked = await Linked.start(python_launch(Settings.model_validate(SETTINGS), model()))
    pids = linked.processes.pids
    yield linked
    await linked.stop()
    assert not any(runs(pid) for pid in pids)


@pytest_asyncio.fixture(loop_scope="module")
async def house(linked: Linked) -> AsyncIterator[Linked]:
    linked.heart.script = Script(tokens=words(linked))
    yield linked
    await until(lambda: not linked.heart.live and not len(linked.links))


async def ask(linked: Linked, **body: object):
    asked = {"model": "demo", "prompt": "Hi", "max_tokens": 64, **body}
    return await linked.client.post("/v1/completions", json=asked)


async def test_a_completion_is_served(house: Linked) -> None:
    answer = (await ask(house)).json()
    assert answer["choices"][0]["text"] == TEXT
    assert answer["usage"]["completion_tokens"] == len(words(house)) + 1


async def test_a_refusal_keeps_its_type(house: Linked) -> None:
    house.heart.script = Script(
        refuse_submit=BatonError(Reason.QUEUE_FULL, "full", retry_after_s=2.4)
    )
    answer = await ask(house)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "3")
    assert answer.json()["error"]["code"] == "queue_full"


async def test_a_stream_that_fails_says_why_and_spares_its_neighbours(house: Linked) -> None:
    tokens = words(house)
    house.heart.script = Script(tokens=tokens, delay_s=0.02)
    spared = asyncio.ensure_future(ask(house))
    await until(lambda: len(house.links) == 1)
    house.heart.script = Script(
        tokens=tokens, fail_with=BatonError(Reason.ENGINE_FAILED, "dead"), fail_after=2
    )
    answer = await ask(house, stream=True)
    assert answer.status_code == 200
    assert '"code": "engine_failed"' in answer.text or '"code":"engine_failed"' in answer.text
    assert (await spared).json()["choices"][0]["text"] == TEXT


async def test_several_answers_fail_as_one(house: Linked) -> None:
    house.heart.script = Script(
        tokens=words(house), fail_with=BatonError(Reason.DEADLINE_EXCEEDED, "late"), fail_after=2
    )
    answer = await ask(house, n=3)
    assert answer.status_code == BatonError(Reason.DEADLINE_EXCEEDED, "").rule.http_status


async def test_clients_that_leave_free_their_requests(house: Linked) -> None:
    house.heart.script = Script(tokens=words(house), endless=True, delay_s=0.01)
    house.heart.aborted.clear()
    body = {"model": "demo", "prompt": "Hi", "max_tokens": 1000, "stream": True}
    async with house.client.stream("POST", "/v1/completions", json=body) as answer:
        await anext(answer.aiter_bytes())
    await until(lambda: len(house.heart.aborted) == 1, 5)
