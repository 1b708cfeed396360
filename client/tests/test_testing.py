"""What users' own tests rest on: the fake cluster."""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from baton_client import AsyncClient, Client, Completion, FinishReason, _played, testing
from baton_client.testing import FakeBaton
from baton_client.v1 import service_pb2 as pb
from baton_client.v1 import service_pb2_grpc as pb_grpc


def test_scripts_are_played_in_order_and_then_prompts_come_back(
    fake: FakeBaton, client: Client
) -> None:
    fake.answer("one", finish_reason=FinishReason.REPETITION)
    fake.answer("two")
    answers = [client.generate("own words") for _ in range(3)]
    assert [answer.text for answer in answers] == ["one", "two", "own words"]
    assert answers[0].finish_reason == "repetition"


def test_it_speaks_the_public_service(fake: FakeBaton) -> None:
    with grpc.insecure_channel(fake.address) as channel:
        call = pb_grpc.BatonStub(channel).Generate(pb.GenerateRequest(prompt=pb.Prompt(text="a b")))
        messages = list(call)
    assert [message.deltas[0].text for message in messages[:-1]] == ["a", " b"]
    assert messages[-1].usage.completion_tokens == 2


def test_health_is_grpcs_own(fake: FakeBaton) -> None:
    health = pytest.importorskip("grpc_health.v1.health_pb2", reason="needs the health package")
    stubs = pytest.importorskip("grpc_health.v1.health_pb2_grpc")
    request = health.HealthCheckRequest(service="baton.v1.Baton")
    with grpc.insecure_channel(fake.address) as channel:
        stub = stubs.HealthStub(channel)
        watch = stub.Watch(request)
        assert stub.Check(request).status == next(watch).status == 1
        fake.serving = False
        assert stub.Check(request).status == next(watch).status == 2


def test_a_unix_socket_needs_no_port(tmp_path: Path) -> None:
    with FakeBaton(f"unix:{tmp_path}/s") as fake, Client(fake.address, api_key="k") as client:
        assert client.generate("a").text == "a"


def test_stopping_breaks_calls_off(fake: FakeBaton) -> None:
    fake.answer("a", delay_s=60)
    with Client(fake.address, retries=None) as client:
        stream = client.stream("p")
        fake.stop()
        with pytest.raises(Exception, match="unavailable"):
            next(stream)


def test_an_answer_may_be_empty(fake: FakeBaton, client: Client) -> None:
    fake.answer()
    assert client.generate("own words").text == ""


def test_it_can_be_started_again(fake: FakeBaton) -> None:
    fake.stop()
    with fake.start() as again, Client(fake.address) as client:
        assert again is fake.start() is fake
        assert client.generate("a b").text == "a b"


def test_any_number_of_direct_streams_at_a_time_gets_through(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Fewer than one connection brings at a time.
    monkeypatch.setattr(testing, "_CALLS_MAX", 64)

    async def scene(fake: FakeBaton) -> list[Completion]:
        async with AsyncClient(fake.address, direct=True, timeout_s=30) as client:
            return await asyncio.gather(*(client.generate(f"{i} x") for i in range(300)))

    with FakeBaton(direct=True) as fake:
        answers = asyncio.run(scene(fake))
        assert [answer.text for answer in answers] == [f"{i} x" for i in range(300)]
        assert fake.calls["Stream"] >= 32


def test_an_answer_that_nobody_comes_for_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_played, "_GRANT_S", 0.1)
    asked = pb.GenerateRequest(prompt=pb.Prompt(text="a"), direct=True)
    with FakeBaton(direct=True) as fake, grpc.insecure_channel(fake.address) as channel:
        call = pb_grpc.BatonStub(channel).Generate(asked, timeout=10)
        grant = next(call).route.grant
        with pytest.raises(grpc.RpcError) as raised:
            next(call)
        assert raised.value.code() is grpc.StatusCode.CANCELLED
        with pytest.raises(grpc.RpcError) as raised:
            next(pb_grpc.DirectStub(channel).Stream(pb.StreamRequest(grant=grant)))
        assert raised.value.code() is grpc.StatusCode.NOT_FOUND


def test_what_it_notes_belongs_together_whoever_asks(fake: FakeBaton) -> None:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with Client(fake.address) as client, ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda n: client.generate(n, traceparent=n), map(str, range(400))))
    finally:
        sys.setswitchinterval(before)
    prompts = [request.prompt.text for request in fake.requests]
    assert prompts == [sent["traceparent"] for sent in fake.metadata]
    assert fake.calls["Generate"] == len(prompts) == 400
