"""Clients of `benchmarks.api` that cost next to nothing, over connections that are kept."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import grpc
import msgspec
from baton_client.v1 import service_pb2 as pb
from baton_client.v1 import service_pb2_grpc as pb_grpc

from baton.wire import worker_pb2 as wire
from baton.wire import worker_pb2_grpc as wire_grpc
from benchmarks.api_worker import Play
from benchmarks.nodes import Child
from deploy.model import DEMO_NAME

_WORD = re.compile(rb'"text":"[^"]')
_LAST = b'"finish_reason":"length"'
_END = b"0\r\n\r\n"
_TAIL_BYTES = 64


@dataclass(frozen=True, slots=True)
class Times:
    """Of one stream, in seconds from its sending; `first_s` is to the first text."""

    first_s: float
    whole_s: float


class Connection(asyncio.Protocol):
    """One HTTP connection, one stream at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._done: asyncio.Future[Times] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def ask(self, message: bytes) -> asyncio.Future[Times]:
        """Sends a request; the answer has to be a stream that ends by its length."""
        self._done = asyncio.get_running_loop().create_future()
        self._tail, self._first_s, self._whole = b"", 0.0, False
        self._sent_at = time.perf_counter()
        self._transport.write(message)
        return self._done

    def data_received(self, data: bytes) -> None:
        text = self._tail + data
        now = time.perf_counter() - self._sent_at
        if not self._first_s and _WORD.search(text):
            self._first_s = now
        self._whole = self._whole or _LAST in text
        self._tail = text[-_TAIL_BYTES:]
        if text.endswith(_END) and self._done is not None:
            if self._whole and self._first_s:
                self._done.set_result(Times(self._first_s, now))
            else:
                self._done.set_exception(RuntimeError(f"no whole answer: {text[-400:]!r}"))
            self._done = None

    def connection_lost(self, exc: Exception | None) -> None:
        if self._done is not None:
            self._done.set_exception(RuntimeError(f"the connection ended: {exc}"))

    def close(self) -> None:
        self._transport.close()


class OpenAiStreams:
    """Streams of /v1/completions at one server."""

    def __init__(self, url: str) -> None:
        self._host, _, port = url.removeprefix("http://").rpartition(":")
        self._port = int(port)
        self._connections: list[Connection] = []
        self._number = 0

    async def open(self, count: int) -> None:
        """So many connections."""
        loop = asyncio.get_running_loop()
        for _ in range(count):
            _, one = await loop.create_connection(Connection, self._host, self._port)
            self._connections.append(one)

    async def together(self, streams: int, tokens: int) -> list[Times]:
        """So many streams at once, each of so many tokens."""
        asking = [one.ask(self._message(tokens)) for one in self._connections[:streams]]
        return list(await asyncio.gather(*asking))

    async def aclose(self) -> None:
        """Closes the connections."""
        for one in self._connections:
            one.close()

    def _message(self, tokens: int) -> bytes:
        self._number += 1
        body = (
            f'{{"model":"{DEMO_NAME}","stream":true,"temperature":0,"ignore_eos":true,'
            f'"max_tokens":{tokens},"prompt":"def parse_{self._number}(line):"}}'
        ).encode()
        head = (
            f"POST /v1/completions HTTP/1.1\r\nhost: {self._host}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


class GrpcStreams:
    """Streams of baton.v1.Baton/Generate at one server, or `direct` at the one worker behind it."""

    def __init__(self, address: str, *, direct: bool = False) -> None:
        self._direct = direct
        self._worker: grpc.aio.Channel | None = None
        self._channel = grpc.aio.insecure_channel(address)
        self._generate = pb_grpc.BatonStub(self._channel).Generate
        self._number = 0

    async def together(self, streams: int, tokens: int) -> list[Times]:
        """So many streams at once, each of so many tokens."""
        return list(await asyncio.gather(*(self._ask(tokens) for _ in range(streams))))

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._channel.close(None)
        if self._worker is not None:
            await self._worker.close(None)

    def _request(self, tokens: int) -> pb.GenerateRequest:
        self._number += 1
        sampling = pb.Sampling(temperature=0, ignore_eos=True, max_tokens=tokens)
        prompt = pb.Prompt(text=f"def parse_{self._number}(line):")
        return pb.GenerateRequest(prompt=prompt, sampling=sampling, direct=self._direct)

    async def _messages(self, request: pb.GenerateRequest) -> AsyncIterator[pb.GenerateResponse]:
        async for message in self._generate(request):
            yield message
            if message.HasField("route"):
                if self._worker is None:
                    self._worker = grpc.aio.insecure_channel(message.route.address)
                stub = pb_grpc.DirectStub(self._worker)
                async for piece in stub.Stream(pb.StreamRequest(grant=message.route.grant)):
                    yield piece

    async def _ask(self, tokens: int) -> Times:
        request = self._request(tokens)
        began, first_s, found = time.perf_counter(), 0.0, 0
        async for message in self._messages(request):
            for delta in message.deltas:
                found += delta.tokens
                first_s = first_s or (time.perf_counter() - began if delta.text else 0.0)
        if found != tokens or not first_s:
            raise RuntimeError(f"{found} of {tokens} tokens came")
        return Times(first_s, time.perf_counter() - began)


class BareWorker:
    """A played worker asked in the routers' protocol, without one: what it and a hop to it take."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address)
        # The stub's types know blocking channels only.
        stub: Any = wire_grpc.WorkerStub(self._channel)
        self._call = stub.Link()
        self._number = 0

    async def first_s(self) -> float:
        """Seconds until the only token of an answer."""
        self._number += 1
        name = f"bare-{self._number}"
        request = msgspec.msgpack.encode([name, [1], None, {"max_tokens": 1}])
        submit = wire.Submit(leg_id=name, request=[request])
        began = time.perf_counter()
        await self._call.write(wire.RouterMessage(submit=submit))
        while not (await self._call.read()).outputs:
            pass
        return time.perf_counter() - began

    async def aclose(self) -> None:
        """Closes the connection."""
        self._call.cancel()
        await self._channel.close(None)


class Players:
    """Those who play engines."""

    def __init__(self, children: Sequence[Child]) -> None:
        self._children = children
        self._play = Play()

    def play(self, **changed: Any) -> None:
        """Changes how they play."""
        self._play, before = replace(self._play, **changed), self._play
        for one in self._children if self._play != before else ():
            one.pipe.send(self._play)
            one.word()
