"""A story is with the router that took the request, and each of them is asked."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from baton_client import (
    AsyncClient,
    Client,
    DeadlineExceededError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    Retries,
    ServerError,
    UnavailableError,
)
from baton_client.testing import FakeBaton

Tell = Callable[..., str]


@pytest.fixture
def pair() -> Iterator[tuple[FakeBaton, FakeBaton]]:
    with FakeBaton() as one, FakeBaton() as other:
        yield one, other


@pytest.fixture(params=["blocking", "awaiting"])
def tell(request: pytest.FixtureRequest) -> Tell:
    """Asks routers at these addresses for a story, by either client."""
    options: dict[str, Any] = {"retries": Retries(backoff_s=0.001)}

    def blocking(ends: list[str], name: str, **more: Any) -> str:
        with Client(ends, **options) as client:
            return client.story(name, **more)

    async def awaited(ends: list[str], name: str, **more: Any) -> str:
        async with AsyncClient(ends, **options) as client:
            return await client.story(name, **more)

    def awaiting(ends: list[str], name: str, **more: Any) -> str:
        return asyncio.run(awaited(ends, name, **more))

    return blocking if request.param == "blocking" else awaiting


def known_to(fake: FakeBaton) -> str:
    """The name of a request that this one took."""
    with Client(fake.address) as client:
        return client.generate("a").request_id


def asked(pair: tuple[FakeBaton, FakeBaton]) -> list[int]:
    return [fake.calls["GetStory"] for fake in pair]


def test_each_is_asked_once_also_one_that_does_not_serve(
    pair: tuple[FakeBaton, FakeBaton], tell: Tell
) -> None:
    ends = [fake.address for fake in pair]
    pair[1].serving = False
    name = known_to(pair[1])
    assert name in tell(ends, name)
    assert asked(pair) == [1, 1]
    scheme = "ipv4:" + ",".join(reversed(ends))
    assert name in tell(scheme, name)
    assert asked(pair) == [1, 2]
    with pytest.raises(NotFoundError):
        tell(ends, "nobody")
    assert asked(pair) == [2, 3]


def test_one_that_could_not_be_asked_may_be_the_one_that_knows(
    pair: tuple[FakeBaton, FakeBaton], tell: Tell
) -> None:
    ends, name = [fake.address for fake in pair], known_to(pair[1])
    pair[0].stop()
    assert name in tell(ends, name)
    with pytest.raises(UnavailableError):
        tell(ends, "nobody")
    # The one that said so is not asked again.
    assert asked(pair) == [0, 2]


def test_one_that_is_full_is_asked_again(pair: tuple[FakeBaton, FakeBaton], tell: Tell) -> None:
    ends, name = [fake.address for fake in pair], known_to(pair[0])
    pair[0].fail(OverloadedError("full", retry_after_s=0.01), method="GetStory")
    assert name in tell(ends, name)
    assert asked(pair) == [2, 1]


def test_what_is_wrong_with_all_ends_it(pair: tuple[FakeBaton, FakeBaton], tell: Tell) -> None:
    pair[0].fail(PermissionDeniedError("no"), method="GetStory")
    with pytest.raises(PermissionDeniedError):
        tell([fake.address for fake in pair], known_to(pair[1]))
    assert asked(pair) == [1, 0]


def test_a_silent_one_leaves_time_for_the_others(fake: FakeBaton, tell: Tell) -> None:
    name = known_to(fake)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ends = [f"127.0.0.1:{silent.getsockname()[1]}", fake.address]
        assert name in tell(ends, name, timeout_s=2)
        began = time.monotonic()
        with pytest.raises((UnavailableError, DeadlineExceededError)):
            tell(ends, "nobody", timeout_s=1)
        # Not only its share of the time.
        assert time.monotonic() - began > 0.8


def test_a_fault_of_one_does_not_hide_what_another_knows(
    pair: tuple[FakeBaton, FakeBaton], tell: Tell
) -> None:
    name = known_to(pair[1])
    pair[0].fail(ServerError("a fault"), method="GetStory")
    assert name in tell([fake.address for fake in pair], name)
    pair[0].fail(ServerError("a fault"), method="GetStory")
    with pytest.raises(ServerError):
        tell([fake.address for fake in pair], "nobody")


def test_a_long_wait_that_one_asked_for_is_kept(
    pair: tuple[FakeBaton, FakeBaton], tell: Tell
) -> None:
    pair[0].fail(OverloadedError("full", retry_after_s=0.5), method="GetStory")
    pair[1].fail(UnavailableError("away"), method="GetStory")
    began = time.monotonic()
    with pytest.raises(NotFoundError):
        tell([fake.address for fake in pair], "nobody")
    assert time.monotonic() - began >= 0.5
