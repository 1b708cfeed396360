"""gRPC against a real cluster: the same answers as over HTTP, from the same engines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import pytest
from baton_client.v1 import service_pb2 as pb
from baton_client.v1 import service_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks.served import Served

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
PROMPT = "def add(a, b):\n"
TOKENS = 20


@pytest.fixture(scope="module")
def channel(served: Served) -> Iterator[grpc.Channel]:
    address = httpx.get(f"{served.url}/status", trust_env=False).json()["grpc"]
    assert any(line.endswith(f"gRPC: {address}") for line in served.lines)
    with grpc.insecure_channel(address) as one:
        yield one


def over_http(served: Served, path: str, **body: Any) -> dict[str, Any]:
    asked = {"model": "baton-demo", "max_tokens": TOKENS, "temperature": 0, **body}
    answer = httpx.post(f"{served.url}{path}", json=asked, timeout=60, trust_env=False)
    choice: dict[str, Any] = answer.json()["choices"][0]
    return choice


def over_grpc(channel: grpc.Channel, prompt: pb.Prompt) -> list[pb.GenerateResponse]:
    sampling = pb.Sampling(max_tokens=TOKENS, temperature=0)
    request = pb.GenerateRequest(prompt=prompt, sampling=sampling)
    return list(service_pb2_grpc.BatonStub(channel).Generate(request, timeout=60))


def test_an_answer_is_that_of_http(served: Served, channel: grpc.Channel) -> None:
    messages = over_grpc(channel, pb.Prompt(text=PROMPT))
    text = "".join(d.text for m in messages for d in m.deltas)
    assert text == over_http(served, "/v1/completions", prompt=PROMPT)["text"]
    last = messages[-1]
    assert last.usage.completion_tokens == TOKENS
    assert last.timing.ttft_s > last.timing.prefill_compute_s > 0


def test_a_conversation_is_read_as_over_http(served: Served, channel: grpc.Channel) -> None:
    talk = pb.Conversation(messages=[pb.ChatMessage(role="user", content=PROMPT)])
    messages = over_grpc(channel, pb.Prompt(conversation=talk))
    text = "".join(d.text for m in messages for d in m.deltas)
    said = over_http(served, "/v1/chat/completions", messages=[{"role": "user", "content": PROMPT}])
    assert text == said["message"]["content"]


def test_the_cluster_is_serving(channel: grpc.Channel) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest(service="baton.v1.Baton")
    assert health.Check(request).status == health_pb2.HealthCheckResponse.SERVING
