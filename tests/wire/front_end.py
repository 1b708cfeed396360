"""The other end of an engine link: what vLLM's front-end processes do, without a server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import zmq
import zmq.asyncio
from vllm import SamplingParams
from vllm.v1.engine import (
    EngineCoreOutput,
    EngineCoreOutputs,
    EngineCoreReadyResponse,
    EngineCoreRequest,
    EngineCoreRequestType,
)
from vllm.v1.serial_utils import MsgpackDecoder, MsgpackEncoder

from router.engine_link import FrontEnd, ModelLimits
from router.engine_links import EngineLinks

LIMITS = ModelLimits(2048, 16, 1000, "bfloat16")
RANK = b"\0\0"


class FakeFrontEnd:
    """Listens as a front end does, and keeps what its engine says."""

    def __init__(self, context: zmq.asyncio.Context, folder: Path, name: str) -> None:
        self.name = name
        self.addresses = [f"ipc://{folder / name}-{end}" for end in ("in", "out")]
        self._input, self._output = context.socket(zmq.ROUTER), context.socket(zmq.PULL)
        for socket, address in zip((self._input, self._output), self.addresses, strict=True):
            socket.setsockopt(zmq.LINGER, 0)
            socket.bind(address)
        self._encoder, self._decoder = MsgpackEncoder(), MsgpackDecoder(EngineCoreOutputs)
        self.ready: EngineCoreReadyResponse | None = None

    async def attached(self, links: EngineLinks, tenant: str = "default") -> FakeFrontEnd:
        links.attach(FrontEnd(self.name, *self.addresses, tenant), LIMITS)
        async with asyncio.timeout(5):
            identity, payload = await self._input.recv_multipart()
        assert identity == RANK
        self.ready = msgspec.msgpack.decode(payload, type=EngineCoreReadyResponse)
        return self

    async def ask(self, name: str, max_tokens: int = 8, **more: Any) -> None:
        await self.send(EngineCoreRequestType.ADD, request(name, max_tokens, **more))

    async def abort(self, *names: str) -> None:
        await self.send(EngineCoreRequestType.ABORT, list(names))

    async def send(self, kind: EngineCoreRequestType, value: Any) -> None:
        await self.send_raw(kind.value, *self._encoder.encode(value))

    async def send_raw(self, *frames: bytes) -> None:
        await self._input.send_multipart([RANK, *frames])

    async def step(self) -> EngineCoreOutputs:
        """The next message."""
        async with asyncio.timeout(5):
            return self._decoder.decode(await self._output.recv_multipart())

    async def answer(self, name: str) -> list[EngineCoreOutput]:
        """All outputs of one request; those of others are passed over."""
        found: list[EngineCoreOutput] = []
        while not (found and found[-1].finished):
            found += [one for one in (await self.step()).outputs if one.request_id == name]
        return found

    async def tokens(self, name: str) -> list[int]:
        """Those of a whole answer, in however many outputs they came."""
        return [token for one in await self.answer(name) for token in one.new_token_ids]

    def silent(self) -> bool:
        """Whether nothing has come that was not read."""
        return not self._output.getsockopt(zmq.EVENTS) & zmq.POLLIN

    def close(self) -> None:
        self._input.close()
        self._output.close()


def request(name: str, max_tokens: int = 8, **more: Any) -> EngineCoreRequest:
    """As a front end sends it."""
    params = more.pop("params", None) or SamplingParams(max_tokens=max_tokens, temperature=0.0)
    fields: dict[str, Any] = {
        "request_id": name,
        "prompt_token_ids": [10, 11, 12],
        "mm_features": None,
        "sampling_params": params,
        "pooling_params": None,
        "arrival_time": 1.0,
        "lora_request": None,
        "cache_salt": None,
        "data_parallel_rank": None,
    }
    return EngineCoreRequest(**{**fields, **more})
