"""The client that awaits does what the other one does."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from baton_client import (
    AsyncClient,
    AsyncSession,
    AsyncStream,
    Client,
    DeadlineExceededError,
    OverloadedError,
    RequestCancelledError,
    Retries,
    Session,
    Stream,
    UnavailableError,
    UnsupportedError,
)
from baton_client.testing import FakeBaton

LETTERS = "abcdefgh" * 100


def play(fake: FakeBaton, scene: Callable[[AsyncClient], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        async with AsyncClient(fake.address, retries=Retries(backoff_s=0.001)) as client:
            return await scene(client)

    return asyncio.run(run())


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not done():  # noqa: ASYNC110 (what is waited for sets no event)
            await asyncio.sleep(0.01)


def names(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


@pytest.mark.parametrize(
    ("blocking", "awaiting"),
    [(Client, AsyncClient), (Stream, AsyncStream), (Session, AsyncSession)],
)
def test_both_clients_have_the_same_methods(blocking: type, awaiting: type) -> None:
    assert names(blocking) == names(awaiting)
    for name in names(blocking):
        ours, theirs = (inspect.getattr_static(kind, name) for kind in (blocking, awaiting))
        if inspect.isfunction(ours):
            assert [*inspect.signature(ours).parameters] == [*inspect.signature(theirs).parameters]


def test_all_calls(fake: FakeBaton) -> None:
    async def scene(client: AsyncClient) -> None:
        answer = await client.generate("a b", return_token_ids=True)
        assert (answer.text, answer.choices[0].token_ids) == ("a b", (0, 1))
        assert answer.request_id in await client.story(answer.request_id)
        assert (await client.count_tokens("a b c")).tokens == 3
        assert (await client.models())[0].can_generate
        with pytest.raises(UnsupportedError):
            await client.embed("abc")
        fake.embeds = True
        assert (await client.embed("abc")).vectors == ((3.0, 1.0),)

    play(fake, scene)


def test_a_stream_is_its_pieces(fake: FakeBaton) -> None:
    async def scene(client: AsyncClient) -> None:
        async with client.stream("a b c") as stream:
            assert [str(piece) async for piece in stream] == ["a", " b", " c"]
        assert (await stream.result()).text == stream.so_far.text == "a b c"

    play(fake, scene)


def test_a_client_may_be_made_before_the_loop_runs(fake: FakeBaton) -> None:
    client = AsyncClient(fake.address)

    async def scene() -> str:
        async with client:
            return (await client.generate("a")).text

    assert asyncio.run(scene()) == "a"


def test_retries(fake: FakeBaton) -> None:
    fake.fail(OverloadedError("full", reason="queue_full", retry_after_s=0.05))
    fake.fail(UnavailableError("gone"), method="CountTokens")
    fake.answer("a", "b")
    fake.answer("a", error=UnavailableError("lost"))

    async def scene(client: AsyncClient) -> None:
        answer = await client.generate("p")
        assert (answer.text, answer.attempts) == ("ab", 2)
        assert (await client.count_tokens("a")).tokens == 1
        with pytest.raises(UnavailableError):
            await client.generate("p")

    play(fake, scene)
    assert fake.calls["Generate"] == 3


def test_deadlines(fake: FakeBaton) -> None:
    fake.answer("a", delay_s=30)

    async def scene(client: AsyncClient) -> None:
        with pytest.raises(DeadlineExceededError):
            await client.generate("p", timeout_s=0.2)

    play(fake, scene)


def test_cancelling_the_task_cancels_the_request(fake: FakeBaton) -> None:
    fake.answer(*LETTERS, delay_s=0.05)

    async def scene(client: AsyncClient) -> None:
        task = asyncio.get_running_loop().create_task(client.generate("p"))
        await until(lambda: fake.calls["Generate"] == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: fake.cancelled == 1)

    play(fake, scene)


def test_leaving_a_stream_cancels_it(fake: FakeBaton) -> None:
    fake.answer(*LETTERS, delay_s=0.02)

    async def scene(client: AsyncClient) -> None:
        async with client.stream("p") as stream:
            async for piece in stream:
                assert piece.text == "a"
                break
        await until(lambda: fake.cancelled == 1)
        with pytest.raises(RequestCancelledError):
            await stream.result()

    play(fake, scene)


@pytest.mark.parametrize("pausing", [False, True])
def test_cancel_ends_a_stream_that_waits(fake: FakeBaton, pausing: bool) -> None:
    if pausing:
        fake.fail(OverloadedError("full", reason="queue_full", retry_after_s=15))
    fake.answer("a", delay_s=30)

    async def scene(client: AsyncClient) -> None:
        stream = client.stream("p")
        asyncio.get_running_loop().call_later(0.1, stream.cancel)
        async with asyncio.timeout(10):
            with pytest.raises(RequestCancelledError):
                await anext(stream)

    play(fake, scene)


def test_a_server_that_cancels_does_not_look_like_ones_own_task(fake: FakeBaton) -> None:
    fake.fail(RequestCancelledError("shut down", reason="cancelled"))
    fake.fail(RequestCancelledError("shut down", reason="cancelled"), method="ListModels")

    async def scene(client: AsyncClient) -> None:
        with pytest.raises(RequestCancelledError):
            await client.generate("p")
        with pytest.raises(RequestCancelledError):
            await client.models()

    play(fake, scene)


def test_sessions(fake: FakeBaton) -> None:
    async def scene(client: AsyncClient) -> None:
        async with client.session(system="s") as chat:
            assert (await chat.send("a b")).text == "a b"
            async with chat.stream("c") as stream:
                assert [str(piece) async for piece in stream] == ["c"]
            assert [m["content"] for m in chat.messages] == ["s", "a b", "a b", "c", "c"]

    play(fake, scene)


def test_closing_the_client_fails_what_runs_and_what_comes(fake: FakeBaton) -> None:
    fake.answer("a", delay_s=30)

    async def scene(client: AsyncClient) -> None:
        running = asyncio.gather(client.generate("p"), return_exceptions=True)
        await until(lambda: fake.calls["Generate"] == 1)
        await client.close()
        late = await asyncio.gather(client.generate("p"), client.models(), return_exceptions=True)
        for error in [*await running, *late]:
            assert isinstance(error, RequestCancelledError)

    play(fake, scene)


def test_closing_the_client_fails_a_question(fake: FakeBaton) -> None:
    let_go = threading.Event()
    begin = fake.begin
    fake.begin = lambda *args: (let_go.wait(10), begin(*args))[1]

    async def scene(client: AsyncClient) -> None:
        running = asyncio.gather(client.models(), return_exceptions=True)
        await asyncio.sleep(0.2)
        await client.close()
        let_go.set()
        (error,) = await running
        assert isinstance(error, RequestCancelledError)

    play(fake, scene)
