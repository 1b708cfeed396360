"""Answers that are read from workers: the same pieces, and the same resume when a stream breaks."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from baton_client import (
    AsyncClient,
    Client,
    DeadlineExceededError,
    DuplicateRequestError,
    InvalidRequestError,
    RequestCancelledError,
    Retries,
    ServerError,
    UnavailableError,
)
from baton_client._direct import PAUSE_S, Reach
from baton_client.answers import Completion
from baton_client.testing import FakeBaton
from baton_client.v1 import service_pb2 as pb
from baton_client.v1 import service_pb2_grpc as pb_grpc

Ask = Callable[..., Completion]
BROKEN = UnavailableError("the worker is gone", reason="worker_lost")


def until(done: Callable[[], bool]) -> None:
    for _ in range(1000):
        if done():
            return
        time.sleep(0.01)
    raise AssertionError("it never came")


@pytest.fixture
def fake() -> Iterator[FakeBaton]:
    with FakeBaton(direct=True) as fake:
        yield fake


@pytest.fixture(params=["blocking", "awaiting"])
def ask(request: pytest.FixtureRequest, fake: FakeBaton) -> Ask:
    """Asks by either client, of its own each time."""
    options: dict[str, Any] = {"retries": Retries(backoff_s=0.001), "timeout_s": 20, "direct": True}

    def blocking(prompt: str, **chosen: Any) -> Completion:
        with Client(fake.address, **options) as client:
            return client.generate(prompt, **chosen)

    async def awaited(prompt: str, **chosen: Any) -> Completion:
        async with AsyncClient(fake.address, **options) as client:
            return await client.generate(prompt, **chosen)

    def awaiting(prompt: str, **chosen: Any) -> Completion:
        return asyncio.run(awaited(prompt, **chosen))

    return blocking if request.param == "blocking" else awaiting


def test_the_answer_is_the_same(fake: FakeBaton, ask: Ask) -> None:
    direct, routed = ask("a b c"), ask("a b c", direct=False, return_token_ids=True)
    assert fake.calls["Stream"] == 1
    assert direct.choices == routed.choices
    assert direct.usage == routed.usage
    assert direct.model == routed.model
    assert direct.timing is not None
    assert direct.request_id == fake.requests[0].request_id
    assert (direct.attempts, fake.cancelled) == (1, 0)


def test_a_cluster_without_direct_streams_answers_as_ever(fake: FakeBaton, ask: Ask) -> None:
    fake.direct = False
    assert ask("a b c").text == "a b c"
    assert fake.requests[0].direct
    assert fake.calls["Stream"] == 0


def test_several_choices_come_through_the_router(fake: FakeBaton, ask: Ask) -> None:
    assert len(ask("a b", n=2).choices) == 2
    assert not fake.requests[0].direct


def test_a_broken_stream_goes_on_through_the_router(fake: FakeBaton, ask: Ask) -> None:
    fake.answer("a", "b", error=BROKEN)
    fake.answer("a", "b", "c", "d")
    answer = ask("x y")
    assert (answer.text, answer.attempts) == ("abcd", 2)
    assert answer.choices[0].token_ids == (0, 1, 2, 3)
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (2, 4)
    again = fake.requests[1]
    assert (list(again.resume_token_ids), again.direct) == ([0, 1], False)


def test_what_breaks_again_goes_on_again(fake: FakeBaton, ask: Ask) -> None:
    for pieces in ("ab", "abc"):
        fake.answer(*pieces, error=BROKEN)
    fake.answer(*"abcde")
    assert ask("x").text == "abcde"
    assert [len(r.resume_token_ids) for r in fake.requests] == [0, 2, 3]


@pytest.mark.parametrize("chosen", [{"seed": 1}, {"regex": "a*"}])
def test_what_nobody_can_resume_ends(fake: FakeBaton, ask: Ask, chosen: dict[str, Any]) -> None:
    fake.answer("a", "b", error=BROKEN)
    with pytest.raises(UnavailableError) as raised:
        ask("x", **chosen)
    assert raised.value.reason == "worker_lost"
    assert len(fake.requests) == 1


def test_a_greedy_answer_with_a_seed_goes_on(fake: FakeBaton, ask: Ask) -> None:
    fake.answer("a", error=BROKEN)
    assert ask("a b", seed=1, temperature=0).text == "a b"


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Routers lead to where nobody listens."""
    elsewhere = pb.Route(address="127.0.0.1:1", grant=b"grant")

    def route(_workers: object, answer: Any) -> pb.GenerateResponse:
        threading.Timer(0.1, answer.over.set).start()
        return pb.GenerateResponse(request_id=answer.request.request_id, route=elsewhere)

    monkeypatch.setattr("baton_client.testing._Workers.route", route)


@pytest.mark.usefixtures("unreachable")
def test_a_worker_that_cannot_be_reached_costs_one_attempt(fake: FakeBaton) -> None:
    with Client(fake.address, retries=None, direct=True) as client:
        answer = client.generate("a b", request_id="mine")
        assert (answer.text, answer.attempts) == ("a b", 2)
        # For a while it asks for no more.
        assert client.generate("c d").text == "c d"
    assert [r.direct for r in fake.requests] == [True, False, False]


def test_all_streams_of_a_worker_go_on(fake: FakeBaton) -> None:
    with Client(fake.address, retries=Retries(backoff_s=0.001), direct=True) as client:
        streams = [client.stream("a b") for _ in range(30)]
        for stream in streams:
            fake.answer("a", error=BROKEN)
            assert str(next(stream)) == "a"
        assert [str(stream.result()) for stream in streams] == ["a b"] * 30
        # The budget is still there for others.
        for _ in range(3):
            fake.fail(UnavailableError("gone"))
        assert client.generate("c").attempts == 4


@pytest.mark.usefixtures("unreachable")
def test_all_requests_of_an_unreachable_worker_fall_back(fake: FakeBaton) -> None:
    async def scene() -> list[Completion]:
        async with AsyncClient(fake.address, direct=True) as client:
            return await asyncio.gather(*(client.generate("a b") for _ in range(20)))

    assert [str(answer) for answer in asyncio.run(scene())] == ["a b"] * 20
    assert sorted(r.direct for r in fake.requests) == [False] * 20 + [True] * 20


def test_after_a_pause_one_finds_out_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("baton_client._direct.time.monotonic", lambda: now)
    reach = Reach()
    assert reach.ask()
    assert reach.ask()
    reach.failed()
    assert not reach.ask()
    now += PAUSE_S
    assert [reach.ask() for _ in range(3)] == [True, False, False]
    now += PAUSE_S
    assert reach.ask()
    reach.succeeded()
    assert reach.ask()
    assert reach.ask()


def test_without_retries_it_ends(fake: FakeBaton) -> None:
    fake.answer("a", error=BROKEN)
    with (
        Client(fake.address, retries=None, direct=True) as client,
        pytest.raises(UnavailableError),
    ):
        client.generate("a b")


def test_a_worker_beyond_a_tunnel_is_not_asked(
    fake: FakeBaton, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = pb.GenerateResponse(route=pb.Route(address="10.255.0.1:1", grant=b"grant"))
    monkeypatch.setattr("baton_client.testing._Workers.route", lambda *_: away)
    answer = ask("a b")
    assert (answer.text, answer.attempts) == ("a b", 2)
    assert [r.direct for r in fake.requests] == [True, False]
    until(lambda: fake.cancelled == 1)


def test_refusals_are_those_of_the_router(fake: FakeBaton, ask: Ask) -> None:
    fake.fail(InvalidRequestError("no", param="temperature"))
    with pytest.raises(InvalidRequestError) as raised:
        ask("x")
    assert raised.value.param == "temperature"
    assert fake.calls["Stream"] == 0


def test_a_deadline_holds_for_it(fake: FakeBaton, ask: Ask) -> None:
    fake.answer(*"abc", delay_s=5)
    with pytest.raises(DeadlineExceededError):
        ask("x", timeout_s=0.3)


def test_a_worker_that_gives_up_on_a_slow_reader_is_no_deadline(fake: FakeBaton, ask: Ask) -> None:
    fake.answer("a", error=DeadlineExceededError("The answer was not read in time."))
    assert ask("a b").text == "a b"
    fake.answer("a", error=DeadlineExceededError("The answer was not read in time."))
    with pytest.raises(DeadlineExceededError):
        ask("a b", timeout_s=0.45)


def test_leaving_ends_both_calls(fake: FakeBaton) -> None:
    fake.answer(*"abc" * 100, delay_s=0.05)
    with Client(fake.address, direct=True) as client:
        stream = client.stream("x")
        assert str(next(stream)) == "a"
        threading.Timer(0.1, stream.cancel).start()
        with pytest.raises(RequestCancelledError):
            stream.result()
        until(lambda: fake.cancelled == 1)


@pytest.mark.parametrize("kind", ["blocking", "awaiting"])
def test_a_stream_that_is_forgotten_is_cancelled(fake: FakeBaton, kind: str) -> None:
    fake.answer(*"abc" * 100, delay_s=0.05)

    def blocking() -> None:
        with Client(fake.address, direct=True) as client:
            for _ in client.stream("x"):
                break
            gc.collect()
            until(lambda: fake.cancelled == len(fake.requests))

    async def awaiting() -> None:
        async with AsyncClient(fake.address, direct=True) as client:
            async for _ in client.stream("x"):
                break
            gc.collect()
            await asyncio.to_thread(until, lambda: fake.cancelled == len(fake.requests))

    blocking() if kind == "blocking" else asyncio.run(awaiting())


def test_the_fake_counts_an_answer_left_by_its_worker_s_call_alone(fake: FakeBaton) -> None:
    """Whichever of the two cancellations arrives first."""
    fake.answer(*"abc" * 100, delay_s=0.05)
    with grpc.insecure_channel(fake.address) as channel:
        asked = pb.GenerateRequest(prompt=pb.Prompt(text="x"), direct=True)
        call = pb_grpc.BatonStub(channel).Generate(asked)
        stream = pb_grpc.DirectStub(channel).Stream(pb.StreamRequest(grant=next(call).route.grant))
        next(stream)
        stream.cancel()
        with pytest.raises(grpc.RpcError):
            next(call)
    until(lambda: fake.cancelled == 1)


def test_leaving_ends_both_calls_of_an_awaited_one(fake: FakeBaton) -> None:
    fake.answer(*"abc" * 100, delay_s=0.05)

    async def scene() -> None:
        async with AsyncClient(fake.address, direct=True) as client:
            stream = client.stream("x")
            assert str(await anext(stream)) == "a"
            asyncio.get_running_loop().call_later(0.1, stream.cancel)
            with pytest.raises(RequestCancelledError):
                await stream.result()

    asyncio.run(scene())


def test_a_router_that_begins_anew_is_found_out(
    fake: FakeBaton, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of an older version, which does not know what it is asked."""
    fake.answer("a", "b", error=BROKEN)
    begin = fake.begin

    def forgetful(*call: Any) -> Any:
        script = begin(*call)
        del fake.requests[-1].resume_token_ids[:]
        return script

    monkeypatch.setattr(fake, "begin", forgetful)
    fake.answer(*"abc" * 100, delay_s=0.05)
    with Client(fake.address, retries=Retries(backoff_s=0.001), direct=True) as client:
        stream = client.stream("x y")
        assert [str(next(stream)) for _ in "ab"] == ["a", "b"]
        with pytest.raises(ServerError, match="cannot resume"):
            next(stream)
        # Though nobody has left it.
        until(lambda: fake.cancelled == 2)


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Routers lead to where a client of a tunnel does not follow."""
    route = pb.GenerateResponse(route=pb.Route(address="10.255.0.1:1", grant=b"grant"))
    monkeypatch.setattr("baton_client.testing._Workers.route", lambda *_: route)


@pytest.mark.usefixtures("away")
@pytest.mark.parametrize("kind", ["blocking", "awaiting"])
def test_a_detour_lets_the_router_let_go_of_the_name(
    fake: FakeBaton, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("baton_client.retries.FALL_BACK_S", 0.1)
    fake.answer("never")
    for _ in range(2):
        fake.fail(DuplicateRequestError("it runs"))
    options: dict[str, Any] = {"retries": None, "direct": True}

    def blocking() -> Completion:
        with Client(fake.address, **options) as client:
            return client.generate("a b", request_id="mine")

    async def awaiting() -> Completion:
        async with AsyncClient(fake.address, **options) as client:
            return await client.generate("a b", request_id="mine")

    answer = blocking() if kind == "blocking" else asyncio.run(awaiting())
    assert (answer.text, answer.attempts) == ("a b", 4)
    assert {r.request_id for r in fake.requests} == {"mine"}
    # One pause after the detour, and one after each refusal.
    assert answer.total_s >= 0.1 + 0.1 + 0.2


@pytest.mark.parametrize("ask", ["awaiting"], indirect=True)
def test_a_worker_s_channel_lasts_as_long_as_its_stream(
    fake: FakeBaton, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("baton_client._direct.CHANNELS_MAX", 0)
    answer = ask("a b c")
    assert (answer.text, answer.attempts, fake.calls["Stream"]) == ("a b c", 1, 1)
