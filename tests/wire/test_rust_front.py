"""vLLM's Rust front end over the engine link."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import httpx
import pytest_asyncio
from openai import AsyncOpenAI

from deploy.front_commands import rust_launch
from tests.wire.fakes import Script
from tests.wire.http.support import CHAT, TEXT, until
from tests.wire.linked import Linked, model, rust_settings
from tests.wire.test_tether import runs


@pytest_asyncio.fixture
async def linked() -> AsyncIterator[Linked]:
    linked = await Linked.start(rust_launch(rust_settings(), model(), "demo"), count=2)
    pids = linked.processes.pids
    yield linked
    await linked.stop()
    assert not any(runs(pid) for pid in pids)


def words(linked: Linked) -> list[int]:
    from tokenizers import Tokenizer

    encoded = Tokenizer.from_file(str(model() / "tokenizer.json"))
    return encoded.encode(TEXT, add_special_tokens=False).ids


async def test_clients_of_the_openai_api_are_served(linked: Linked) -> None:
    linked.heart.script = Script(tokens=words(linked))
    api = AsyncOpenAI(base_url=f"http://127.0.0.1:{linked.port}/v1", api_key="-")
    whole = await api.completions.create(model="demo", prompt="Hi", max_tokens=64)
    assert whole.choices[0].text == TEXT
    assert whole.choices[0].finish_reason == "stop"
    assert whole.usage.completion_tokens == len(words(linked)) + 1
    stream = await api.chat.completions.create(
        model="demo", messages=CHAT, max_tokens=64, stream=True, logprobs=True, top_logprobs=2
    )
    parts = [chunk.choices[0] async for chunk in stream if chunk.choices]
    assert "".join(part.delta.content or "" for part in parts) == TEXT
    assert any(part.logprobs and part.logprobs.content for part in parts)
    await api.close()


async def test_clients_that_leave_free_their_requests(linked: Linked) -> None:
    linked.heart.script = Script(tokens=words(linked), endless=True, delay_s=0.01)
    body = {"model": "demo", "prompt": "Hi", "max_tokens": 1000, "stream": True}
    async with linked.client.stream("POST", "/v1/completions", json=body) as answer:
        assert answer.status_code == 200
        await anext(answer.aiter_bytes())
    await until(lambda: len(linked.heart.aborted) == 1, 5)
    assert not linked.links.open


async def test_one_that_is_killed_takes_only_its_own_along(linked: Linked) -> None:
    linked.heart.script = Script(tokens=words(linked), endless=True, delay_s=0.01)

    async def ask() -> bool:
        """Whether the answer came."""
        body = {"model": "demo", "prompt": "Hi", "max_tokens": 60}
        try:
            answer = await linked.client.post("/v1/completions", json=body)
        except httpx.HTTPError:
            return False
        return answer.status_code == 200

    asking = [asyncio.ensure_future(ask()) for _ in range(24)]
    await until(lambda: len(linked.links.open) == 24, 5)
    doomed = next(iter(linked.heart.live)).partition("/")[0]
    its = [one for one in linked.heart.live if one.startswith(f"{doomed}/")]
    os.kill(linked.processes.pids[linked.ever.index(doomed)], signal.SIGKILL)
    done = await asyncio.gather(*asking)
    assert done.count(False) == len(its)
    await until(lambda: sorted(linked.heart.aborted) == sorted(its), 5)
    await until(lambda: len(linked.processes.pids) == 2, 5)
    assert await ask(), "one follows"
