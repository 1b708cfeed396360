"""Clients and sessions that are closed while calls run or wait, and when a stream's time begins."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, cast

import pytest
from baton_client import AsyncClient, Client, OverloadedError, RequestCancelledError
from baton_client._core import Reading
from baton_client._direct import Channels
from baton_client._kept import Kept
from baton_client.aio_stream import AsyncStream
from baton_client.connection import Connection
from baton_client.testing import FakeBaton

both = pytest.mark.parametrize("kind", ["blocking", "awaiting"])
FULL = OverloadedError("full", reason="queue_full", retry_after_s=25)


@pytest.fixture
def pair() -> Iterator[list[str]]:
    with FakeBaton() as one, FakeBaton() as other:
        yield [one.address, other.address]


def blocking(fake: FakeBaton, asks: Callable[[Any], Any]) -> None:
    with Client(fake.address) as client:
        timer = threading.Timer(0.3, client.close)
        timer.start()
        asks(client)
        timer.join()


async def awaiting(fake: FakeBaton, asks: Callable[[Any], Any]) -> None:
    async with AsyncClient(fake.address) as client:

        async def close() -> None:
            await asyncio.sleep(0.3)
            await client.close()

        await asyncio.gather(asks(client), close())


@both
@pytest.mark.parametrize("method", ["Generate", "ListModels"])
def test_closing_wakes_what_waits_for_its_next_attempt(
    kind: str, method: Any, fake: FakeBaton
) -> None:
    fake.fail(FULL, method=method)
    started = time.monotonic()

    def ask(client: Any) -> Any:
        return client.models() if method == "ListModels" else client.generate("p")

    with pytest.raises(RequestCancelledError, match="the client is closed"):
        blocking(fake, ask) if kind == "blocking" else asyncio.run(awaiting(fake, ask))
    assert time.monotonic() - started < 10
    assert fake.calls[method] == 1


@both
def test_closing_ends_a_stream_that_is_read(kind: str, fake: FakeBaton) -> None:
    fake.answer("a", "b", delay_s=30)

    def ask(client: Any) -> Any:
        return client.generate("p")

    with pytest.raises(RequestCancelledError, match="the client is closed"):
        blocking(fake, ask) if kind == "blocking" else asyncio.run(awaiting(fake, ask))


def test_a_call_that_begins_while_the_client_closes_says_so(
    fake: FakeBaton, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = Reading.call_arguments
    client = Client(fake.address)

    def late(reading: Reading) -> dict[str, Any]:
        made = arguments(reading)
        client.close()
        return made

    monkeypatch.setattr(Reading, "call_arguments", late)
    with pytest.raises(RequestCancelledError, match="the client is closed"):
        client.generate("p")


def test_a_question_that_begins_while_the_client_closes_says_so(
    fake: FakeBaton, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(fake.address)
    client.models()
    monkeypatch.setattr(client.core, "asking", lambda *call: (asking(*call), client.close())[0])
    asking, checks, check = type(client.core).asking.__get__(client.core), [], Kept.check_open

    def once_late(kept: Any) -> None:
        checks.append(kept)
        if len(checks) > 1:
            check(kept)

    monkeypatch.setattr(Kept, "check_open", once_late)
    with pytest.raises(RequestCancelledError, match="the client is closed"):
        client.models()


def test_nothing_is_opened_after_closing(monkeypatch: pytest.MonkeyPatch, fake: FakeBaton) -> None:
    with FakeBaton() as other:
        client, opened = Client([fake.address, other.address]), []
        client.close()
        monkeypatch.setattr(Connection, "opened", lambda *to: opened.append(to))
        for call in (client.session, lambda: client.story("a"), client.models):
            with pytest.raises(RequestCancelledError, match="the client is closed"):
                call()
    assert opened == []


def test_a_stream_that_is_led_to_a_worker_while_the_client_closes_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    to = Channels.to
    with FakeBaton(direct=True) as fake:
        client = Client(fake.address, direct=True)
        monkeypatch.setattr(Channels, "to", lambda *at: (to(*at), client.close())[0])
        with pytest.raises(RequestCancelledError, match="the client is closed"):
            client.generate("p")


def test_streams_and_channels_come_from_many_threads_while_it_closes() -> None:
    class Open:
        cancelled = False

        def cancel(self) -> None:
            self.cancelled = True

    kept: Kept[Open] = Kept()
    made: list[list[Open]] = [[] for _ in range(4)]

    def work(mine: list[Open]) -> None:
        with suppress(RequestCancelledError):
            while True:
                kept.stream(stream := Open())
                kept.channel(Open)
                mine.append(stream)

    threads = [threading.Thread(target=work, args=(mine,)) for mine in made]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    kept.close()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    # Those whose channel came in time were there to be cancelled.
    assert all(stream.cancelled for mine in made for stream in mine)


def test_a_closed_session_goes_on_anywhere(pair: list[str]) -> None:
    with Client(pair) as client:
        chat = client.session()
        chat.send("a")
        begun = chat.stream("b")
        chat.close()
        assert begun.result().text == "b"
        assert chat.send("c").text == "c"
        chat.close()
    with pytest.raises(RequestCancelledError, match="the client is closed"):
        chat.send("d")


def test_a_closed_session_of_an_awaiting_client_goes_on_anywhere(pair: list[str]) -> None:
    async def scene() -> None:
        async with AsyncClient(pair) as client:
            chat = client.session()
            await chat.send("a")
            begun = chat.stream("b")
            await chat.close()
            assert (await begun.result()).text == "b"
            assert (await chat.send("c")).text == "c"
            await chat.close()
        with pytest.raises(RequestCancelledError, match="the client is closed"):
            await chat.send("d")

    asyncio.run(scene())


def test_the_time_of_a_stream_begins_when_it_is_first_read(fake: FakeBaton, client: Client) -> None:
    stream = client.stream("a b", timeout_s=0.5)
    time.sleep(0.6)
    assert stream.so_far.total_s == 0.0
    answer = stream.result()
    assert answer.text == "a b"
    assert 0.0 < answer.ttft_s <= answer.total_s < 0.5


def test_a_task_that_ends_while_the_router_has_its_word_ends_the_router_s_call() -> None:
    class Router:
        cancelled = False

        async def code(self) -> Any:
            await asyncio.Event().wait()

        def cancel(self) -> None:
            self.cancelled = True

    async def scene(router: Any) -> bool:
        reading: Any = SimpleNamespace(has_all=False)
        stream = AsyncStream([], reading, cast("Any", None))
        stream._call, stream._direct = router, cast("Any", Router())
        broken = asyncio.create_task(stream._failed(cast("Any", None)))
        await asyncio.sleep(0.01)
        broken.cancel()
        await asyncio.wait([broken])
        return broken.cancelled()

    assert asyncio.run(scene(router := Router()))
    assert router.cancelled
