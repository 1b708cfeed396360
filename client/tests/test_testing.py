"""What users' own tests rest on: the fake cluster."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from baton_client import Client, FinishReason
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
