"""A worker's gRPC service over a fake engine, and routers' ends of its links."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import grpc

from baton.wire import worker_pb2 as wire
from baton.wire import worker_pb2_grpc as wire_grpc
from engine.service import WorkerServer
from tests.fakes.worker import House, info


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not done():  # noqa: ASYNC110 (what is waited for sets no event)
            await asyncio.sleep(0.005)


class Served(House):
    """A worker behind a port, and a router's channel to it."""

    async def start(self) -> None:
        self.server = WorkerServer(self.worker)
        self.port = self.server.bind("127.0.0.1")
        await self.server.start(info("digest"))
        options = [("grpc.max_send_message_length", -1)]
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{self.port}", options=options)
        self.stub = wire_grpc.WorkerStub(self.channel)

    async def stop(self) -> None:
        await self.channel.close()
        await self.server.stop(0)

    async def link(self, router_id: str = "r", digest: str = "digest") -> Router:
        router = Router(self.stub.Link())
        hello = wire.Hello(router_id=router_id, config_digest=digest)
        await router.send(hello=hello)
        return router

    async def until(self, legs: int | None = None, links: int | None = None) -> None:
        """Wait for messages under way to arrive."""
        worker = self.worker
        await until(lambda: legs in (None, worker.legs) and links in (None, worker.links))


class Router:
    """One router's end of a link."""

    def __init__(self, call: grpc.aio.StreamStreamCall) -> None:
        self.call = call

    async def send(self, **message: object) -> None:
        await self.call.write(wire.RouterMessage(**message))

    async def news(self) -> wire.StepFrame:
        """The next frame that says more than the load."""
        async with asyncio.timeout(5):
            while True:
                frame = await self.call.read()
                assert isinstance(frame, wire.StepFrame), "the link ended"
                if frame.outputs or frame.ended or frame.prefilled:
                    return frame

    async def frame(self) -> wire.StepFrame:
        """The next frame."""
        async with asyncio.timeout(5):
            frame = await self.call.read()
        assert isinstance(frame, wire.StepFrame), "the link ended"
        return frame

    async def answer(self) -> wire.Answer:
        """The next answer to a probe."""
        while not (frame := await self.frame()).answers:
            pass
        (answer,) = frame.answers
        return answer

    async def code(self) -> grpc.StatusCode:
        """How the link ends, behind all frames that are still under way."""
        async with asyncio.timeout(5):
            with suppress(grpc.aio.AioRpcError):
                while isinstance(await self.call.read(), wire.StepFrame):
                    pass
            return await self.call.code()
