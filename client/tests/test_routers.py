"""Several routers behind one client: gRPC's own round robin and health checks."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest
from baton_client import AsyncClient, Client, NotFoundError, Retries, UnavailableError, connection
from baton_client.testing import FakeBaton

Pair = tuple[FakeBaton, FakeBaton]
ROUTER = """
import sys
from baton_client.testing import FakeBaton
with FakeBaton() as fake:
    fake.answer("a", "b", delay_s=1)
    print(fake.address, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def pair() -> Iterator[Pair]:
    with FakeBaton() as one, FakeBaton() as other:
        yield one, other


@pytest.fixture
def client(pair: Pair) -> Iterator[Client]:
    with Client([fake.address for fake in pair], retries=Retries(backoff_s=0.01)) as client:
        yield client


def until(done: Callable[[], bool]) -> None:
    for _ in range(500):
        if done():
            return
        time.sleep(0.01)
    raise AssertionError("it never came")


def counts(pair: Pair, method: str = "ListModels") -> list[int]:
    return [fake.calls[method] for fake in pair]


def reaches_both(pair: Pair, client: Client) -> bool:
    before = counts(pair)
    for _ in range(2):
        client.models()
    return all(now > then for now, then in zip(counts(pair), before, strict=True))


def reaches_only(fake: FakeBaton, pair: Pair, client: Client) -> bool:
    before = counts(pair)
    for _ in range(4):
        client.models()
    new = [now - then for now, then in zip(counts(pair), before, strict=True)]
    return new == [4 if one is fake else 0 for one in pair]


def test_calls_go_to_all_healthy_routers_in_turn(pair: Pair, client: Client) -> None:
    until(lambda: reaches_both(pair, client))
    before = counts(pair)
    for _ in range(10):
        client.models()
    assert [now - then for now, then in zip(counts(pair), before, strict=True)] == [5, 5]


def test_a_router_that_does_not_serve_gets_nothing_until_it_does(
    pair: Pair, client: Client
) -> None:
    until(lambda: reaches_both(pair, client))
    pair[0].serving = False
    until(lambda: reaches_only(pair[1], pair, client))
    pair[0].serving = True
    until(lambda: reaches_both(pair, client))


def test_one_that_never_served_is_not_asked(pair: Pair, client: Client) -> None:
    pair[0].serving = False
    for _ in range(10):
        client.models()
    assert counts(pair) == [0, 10]


def test_a_single_router_says_itself_why_it_refuses(pair: Pair) -> None:
    pair[0].serving = False
    pair[0].fail(UnavailableError("no worker yet", reason="starting"))
    with Client(pair[0].address, retries=None) as alone:
        with pytest.raises(UnavailableError, match="starting"):
            alone.generate("a")
        assert alone.generate("a").text == "a"


def test_where_none_serves_calls_fail_and_are_tried_again(pair: Pair, client: Client) -> None:
    for fake in pair:
        fake.serving = False
    with pytest.raises(UnavailableError):
        client.models()
    assert counts(pair) == [0, 0]


def test_a_router_that_dies_loses_its_streams_and_nothing_else(pair: Pair, client: Client) -> None:
    until(lambda: reaches_both(pair, client))
    for _ in range(2):
        pair[0].answer(*"a" * 1000, delay_s=0.1)
        pair[1].answer("a", "b", delay_s=0.1)
    streams = [client.stream("p") for _ in range(4)]
    assert [next(stream).text for stream in streams] == ["a"] * 4
    assert counts(pair, "Generate") == [2, 2]
    pair[0].stop()
    ends = []
    for stream in streams:
        try:
            ends.append(stream.result().text)
        except UnavailableError as error:
            ends.append(error.reason)
    assert sorted(ends) == ["ab", "ab", "unavailable", "unavailable"]
    assert [client.generate("x").text for _ in range(6)] == ["x"] * 6
    assert counts(pair, "Generate") == [2, 8]


def test_a_router_that_falls_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "KEEPALIVE_MS", 500)
    monkeypatch.setattr(connection, "KEEPALIVE_TIMEOUT_MS", 500)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", ROUTER], **pipes) as router:
        try:
            with Client(router.stdout.readline().strip(), retries=None) as client:
                stream = client.stream("p", timeout_s=30)
                assert next(stream).text == "a"
                router.send_signal(signal.SIGSTOP)
                with pytest.raises(UnavailableError):
                    next(stream)
        finally:
            router.kill()


def test_a_router_that_comes_back_is_asked_again(pair: Pair, client: Client) -> None:
    until(lambda: reaches_both(pair, client))
    pair[0].stop()
    until(lambda: reaches_only(pair[1], pair, client))
    with FakeBaton(pair[0].address) as again:
        until(lambda: reaches_both((again, pair[1]), client))


def test_the_async_client_does_the_same(pair: Pair) -> None:
    pair[0].serving = False

    async def scene() -> None:
        async with AsyncClient([fake.address for fake in pair]) as client:
            for _ in range(6):
                await client.models()
            pair[1].stop()
            pair[0].serving = True
            assert (await client.generate("a")).text == "a"

    asyncio.run(scene())
    assert counts(pair) == [0, 6]
    assert counts(pair, "Generate") == [1, 0]


def test_a_session_keeps_to_one_router_while_that_takes_it(pair: Pair, client: Client) -> None:
    until(lambda: reaches_both(pair, client))
    with client.session() as chat:
        for _ in range(6):
            chat.send("a")
        assert sorted(counts(pair, "Generate")) == [0, 6]
        home, other = sorted(pair, key=lambda fake: -fake.calls["Generate"])
        # Refused there: any router will do, with nothing lost.
        for _ in range(3):
            home.fail(UnavailableError("on its way out", reason="draining"))
        assert chat.send("b").attempts in (2, 3)
        home.stop()
        for _ in range(3):
            assert chat.send("c").text == "c"
        assert other.calls["Generate"] >= 3
    assert len(chat.messages) == 20


def test_a_story_is_found_wherever_it_is(pair: Pair, client: Client) -> None:
    until(lambda: reaches_both(pair, client))
    for _ in range(4):
        name = client.generate("a").request_id
        assert [name in client.story(name) for _ in range(2)] == [True, True]
    before = counts(pair, "GetStory")
    with pytest.raises(NotFoundError):
        client.story("nobody")
    new = [now - then for now, then in zip(counts(pair, "GetStory"), before, strict=True)]
    assert new == [1, 1]


def test_sessions_spread_over_the_routers(pair: Pair, client: Client) -> None:
    until(lambda: reaches_both(pair, client))
    for _ in range(12):
        with client.session() as chat:
            chat.send("a")
    assert all(counts(pair, "Generate"))


def test_an_async_session_keeps_to_one_router(pair: Pair) -> None:
    async def scene() -> None:
        async with AsyncClient([f.address for f in pair]) as client, client.session() as chat:
            for _ in range(6):
                await chat.send("a")

    asyncio.run(scene())
    assert sorted(counts(pair, "Generate")) == [0, 6]
