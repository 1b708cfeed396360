"""What the gRPC tests share: the running server, and ways to ask it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc
import httpx
from baton_client.v1 import service_pb2 as pb
from baton_client.v1 import service_pb2_grpc
from fastapi import FastAPI
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from baton.errors import BatonError
from router.front import BatonFront
from router.http import Pages
from router.rpc import RpcServer
from router.rpc_requests import Requests
from tests.wire.fakes import FakeHeart

BODY_MIB = 1
MAX_INFLIGHT = 64
TALK = [pb.ChatMessage(role="user", content="Hello")]


@dataclass
class House:
    """Two servers over one front over a fake heart."""

    front: BatonFront
    heart: FakeHeart
    stub: service_pb2_grpc.BatonStub
    channel: grpc.aio.Channel
    client: httpx.AsyncClient
    words: list[int]
    """The tokens of `TEXT`."""
    ready: list[BatonError]
    """Why requests cannot be served; empty: they can."""
    server: RpcServer
    app: FastAPI
    requests: Requests
    pages: Pages


@dataclass
class Refusal:
    """What a call ended with."""

    code: grpc.StatusCode
    message: str
    reason: str
    param: str | None
    retry_s: float | None


def asked(
    prompt: pb.Prompt | str = "Hi", sampling: dict[str, Any] | None = None, **fields: Any
) -> pb.GenerateRequest:
    prompt = pb.Prompt(text=prompt) if isinstance(prompt, str) else prompt
    chosen = pb.Sampling(**{"max_tokens": 64, **(sampling or {})})
    return pb.GenerateRequest(prompt=prompt, sampling=chosen, **fields)


def talk() -> pb.Prompt:
    return pb.Prompt(conversation=pb.Conversation(messages=TALK))


async def told(call: Any) -> list[Any]:
    return [message async for message in call]


async def rest(call: Any) -> list[Any]:
    """What comes after a message that was read."""
    messages = []
    while (message := await call.read()) is not grpc.aio.EOF:
        messages.append(message)
    return messages


async def generate(house: House, *args: Any, **fields: Any) -> list[pb.GenerateResponse]:
    return await told(house.stub.Generate(asked(*args, **fields), timeout=20))


def text_of(messages: list[pb.GenerateResponse], index: int = 0) -> str:
    return "".join(d.text for m in messages for d in m.deltas if d.index == index)


async def refused(call: Any) -> Refusal:
    """How a call that must not end well has ended."""
    try:
        if hasattr(call, "__aiter__"):
            async for _ in call:
                pass
        else:
            await call
    except grpc.aio.AioRpcError as error:
        return refusal_of(error)
    raise AssertionError("it ended well")


def refusal_of(error: grpc.aio.AioRpcError) -> Refusal:
    status = rpc_status.from_call(_Blocking(error))
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    retry_s = None
    for detail in () if status is None else status.details:
        if detail.Unpack(info):
            assert info.domain == "baton"
        elif detail.Unpack(retry):
            retry_s = retry.retry_delay.ToNanoseconds() / 1e9
    param = info.metadata.get("param")
    return Refusal(error.code(), error.details() or "", info.reason, param, retry_s)


class _Blocking:
    """`rpc_status` reads errors of blocking clients."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        self._error = error

    def code(self) -> grpc.StatusCode:
        return self._error.code()

    def details(self) -> str | None:
        return self._error.details()

    def trailing_metadata(self) -> Any:
        return tuple(self._error.trailing_metadata() or ())
