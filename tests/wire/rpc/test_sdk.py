"""The Python SDK against the server: answers, errors, cancelling, and the calls beside."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from baton_client import (
    AsyncClient,
    BatonError,
    Client,
    DeadlineExceededError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    Retries,
    UnavailableError,
)

from baton.errors import BatonError as Refusal
from baton.errors import Reason
from tests.wire.fakes import Script
from tests.wire.http.support import TEXT, until
from tests.wire.rpc.support import House

pytestmark = pytest.mark.asyncio(loop_scope="session")
SAID = [{"role": "user", "content": "Hello"}]


@pytest_asyncio.fixture(loop_scope="session")
async def sdk(house: House) -> AsyncIterator[AsyncClient]:
    address = f"127.0.0.1:{house.server.port}"
    async with AsyncClient(address, retries=Retries(backoff_s=0.01), timeout_s=20) as client:
        yield client


async def test_answers(house: House, sdk: AsyncClient) -> None:
    for prompt in ("Hi", SAID, house.words):
        answer = await sdk.generate(prompt, max_tokens=64)
        assert answer.text.strip() == TEXT.strip()
        assert answer.finish_reason == "stop"
        assert answer.usage.prompt_tokens > 0
    two = await sdk.generate("Hi", n=2, max_tokens=4, return_token_ids=True, seed=1)
    assert [len(choice.token_ids) for choice in two.choices] == [4, 4]
    assert [choice.finish_reason for choice in two.choices] == ["length", "length"]


async def test_the_blocking_client_streams(house: House) -> None:
    def scene() -> str:
        with Client(f"127.0.0.1:{house.server.port}") as client, client.stream("Hi") as stream:
            text = "".join(str(piece) for piece in stream)
            assert stream.result().text == text
            assert client.map(["Hi", "Ho"], concurrency=2)[1].text == text
            with client.session() as chat:
                chat.send("Hello")
                assert len(chat.messages) == 2
            return text

    assert (await asyncio.to_thread(scene)).strip() == TEXT.strip()


async def test_the_calls_beside(sdk: AsyncClient) -> None:
    assert (await sdk.count_tokens("Hi", return_token_ids=True)).tokens > 0
    (model,) = await sdk.models()
    assert (model.name, model.can_generate) == ("demo", True)
    assert await sdk.story("known") == "told"
    with pytest.raises(NotFoundError):
        await sdk.story("unknown")
    with pytest.raises(BatonError):
        await sdk.embed("Hi")


@pytest.mark.parametrize(
    ("reason", "kind"),
    [(Reason.QUEUE_FULL, OverloadedError), (Reason.NO_WORKER, UnavailableError)],
)
async def test_refusals(house: House, reason: Reason, kind: type[BatonError]) -> None:
    house.heart.script = Script(refuse_admit=Refusal(reason, "not now", retry_after_s=0.02))
    async with AsyncClient(f"127.0.0.1:{house.server.port}", retries=Retries(2, 0.01)) as sdk:
        with pytest.raises(kind) as raised:
            await sdk.generate("Hi")
    error = raised.value
    assert (error.reason, error.message, error.retry_after_s) == (reason.value, "not now", 0.02)
    assert len(house.heart.callers) == 2


async def test_wrong_options(sdk: AsyncClient) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        await sdk.generate("Hi", temperature=-1)
    assert raised.value.param


async def test_leaving_and_deadlines_free_the_request(house: House, sdk: AsyncClient) -> None:
    house.heart.script = Script(tokens=house.words, endless=True, delay_s=0.02)
    async with sdk.stream("Hi", max_tokens=1000) as stream:
        await anext(stream)
    await until(lambda: not house.heart.live)
    with pytest.raises(DeadlineExceededError):
        await sdk.generate("Hi", max_tokens=1000, timeout_s=0.3)
    await until(lambda: not house.heart.live)
