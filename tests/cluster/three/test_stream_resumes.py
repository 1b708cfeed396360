"""A stream outlives the engine that generates it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from baton_client import Client
from baton_client.v1 import service_pb2 as pb
from baton_client.v1 import service_pb2_grpc

from benchmarks.served import Served
from deploy import cli
from tests.cluster.asking import BACK_S, inflight, lives, status, until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
TOKENS, KILLED_AFTER = 150, 30
PROMPT = "def tokenize(text):\n"
BODY = {
    "model": "baton-demo",
    "prompt": PROMPT,
    "max_tokens": TOKENS,
    "temperature": 0,
    "ignore_eos": True,
    "return_token_ids": True,
}


def _pieces(served: Served) -> Iterator[dict[str, Any]]:
    """What a stream brings, with the request's id in each piece."""
    body = {**BODY, "stream": True, "stream_options": {"include_usage": True}}
    with httpx.stream("POST", f"{served.url}/v1/completions", json=body, timeout=60) as answer:
        assert answer.status_code == 200
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                yield json.loads(line.removeprefix("data: "))


def _decoder(served: Served, request_id: str) -> dict[str, Any]:
    """The worker that a request's tokens come from, as the cluster sees it."""
    plan = httpx.get(f"{served.url}/explain/{request_id}").json()["plans"][-1]
    members = status(served)["members"]
    found: dict[str, Any] = next(m for m in members if m["worker_id"] == plan["decode"])
    return found


@pytest.fixture(scope="module")
def scaled(served: Served, run_dir: Path) -> Iterator[None]:
    where = ["--set", f"cluster.run_dir={run_dir}"]
    assert cli.main(["scale", "prefill=1", "decode=2", *where]) == 0
    yield
    assert cli.main(["scale", "prefill=2", "decode=1", *where]) == 0


@pytest.fixture
def two_decoders(scaled: None, served: Served) -> None:
    until(lambda: _decoders(served) == 2, BACK_S, "two decode workers")


def _decoders(served: Served) -> int:
    return sum(w["role"] == "decode" and w["up"] for w in status(served)["workers"])


@pytest.mark.usefixtures("two_decoders")
def test_a_stream_goes_on_after_its_engine_was_killed(served: Served) -> None:
    whole = httpx.post(f"{served.url}/v1/completions", json=BODY, timeout=60).json()
    expected = whole["choices"][0]
    assert len(expected["token_ids"]) == TOKENS
    text, tokens, usage = "", list[int](), {}
    killed: dict[str, Any] = {}
    for piece in _pieces(served):
        assert "error" not in piece, piece
        usage = piece.get("usage") or usage
        for choice in piece["choices"]:
            text += choice["text"]
            tokens += choice["token_ids"] or []
        if len(tokens) >= KILLED_AFTER and not killed:
            killed = _decoder(served, piece["id"])
            os.kill(killed["engine_pid"], signal.SIGKILL)
    assert killed
    plans = httpx.get(f"{served.url}/explain/{piece['id']}").json()["plans"]
    assert plans[-1]["decode"] != killed["worker_id"], "it went on elsewhere"
    assert tokens == expected["token_ids"]
    assert text == expected["text"]
    counts = ("prompt_tokens", "completion_tokens", "total_tokens")
    assert [usage[key] for key in counts] == [whole["usage"][key] for key in counts]
    until(lambda: inflight(served) == 0, 10, "nothing is left in the router")
    until(lambda: not lives(killed["engine_pid"]), 10, "the old engine is gone")


@pytest.mark.usefixtures("two_decoders")
def test_a_direct_stream_goes_on_after_its_worker_was_killed(served: Served) -> None:
    address = status(served)["grpc"]
    options: dict[str, Any] = {"max_tokens": TOKENS, "temperature": 0, "ignore_eos": True}
    with Client(address, direct=True, timeout_s=100) as client:
        routed = client.generate(PROMPT, direct=False, return_token_ids=True, **options)
        direct = client.generate(PROMPT, **options)
        assert direct.choices == routed.choices
        assert direct.usage.completion_tokens == TOKENS
        assert direct.attempts == 1
        with client.stream(PROMPT, **options) as stream:
            while not stream.so_far.choices or stream.so_far.choices[0].tokens < KILLED_AFTER:
                next(stream)
            killed = _decoder(served, stream.so_far.request_id)
            os.kill(killed["pid"], signal.SIGKILL)
            resumed = stream.result()
    assert resumed.choices == routed.choices
    assert resumed.attempts > 1
    until(lambda: inflight(served) == 0, 10, "nothing is left in the router")
    until(lambda: not lives(killed["engine_pid"]), 10, "the old engine is gone")


def test_the_route_leads_past_the_router(served: Served) -> None:
    prompt, sampling = pb.Prompt(text=PROMPT), pb.Sampling(max_tokens=20)
    request = pb.GenerateRequest(prompt=prompt, sampling=sampling, direct=True)
    with grpc.insecure_channel(status(served)["grpc"]) as channel:
        call = service_pb2_grpc.BatonStub(channel).Generate(request, timeout=60)
        route = next(call).route
        with grpc.insecure_channel(route.address) as worker:
            stub = service_pb2_grpc.DirectStub(worker)
            pieces = list(stub.Stream(pb.StreamRequest(grant=route.grant), timeout=60))
        (last,) = list(call)
    assert pieces[-1].deltas[0].finish_reason
    tokens = sum(delta.tokens for piece in pieces for delta in piece.deltas)
    assert tokens == last.usage.completion_tokens > 0
