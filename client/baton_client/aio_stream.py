"""Answers as they come, for programs with an event loop."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any, Self, cast

import grpc
from grpc import aio

from baton_client._core import Leaving, Reading
from baton_client._direct import OK, WORD_S, AsyncCall, Channels, error_of, watch
from baton_client.answers import Completion, Piece
from baton_client.v1 import service_pb2 as pb
from baton_client.v1 import service_pb2_grpc as pb_grpc


class AsyncStream(Leaving[asyncio.Event], AsyncIterator[Piece]):
    """An answer that arrives piece by piece. Leave it early and the cluster stops working on it.

    async with client.stream("Tell me a story") as stream:
        async for piece in stream:
            print(piece, end="", flush=True)
    print((await stream.result()).usage)
    """

    def __init__(
        self,
        stubs: "Sequence[pb_grpc.BatonAsyncStub]",
        reading: Reading,
        workers: Channels[aio.Channel],
    ) -> None:
        self._stubs = list(stubs)
        self._workers = workers
        self._worker: aio.Channel | None = None
        self._reading = reading
        self._call: AsyncCall | None = None
        self._direct: AsyncCall | None = None
        self._watching: asyncio.Future[None] | None = None
        self._left = asyncio.Event()

    async def __anext__(self) -> Piece:
        while (piece := self._reading.next_piece()) is None:
            if self._reading.completion is not None:
                raise StopAsyncIteration
            await self._read()
        return piece

    async def result(self) -> Completion:
        """Read what is left; the whole answer. Raises BatonError where there is none."""
        async for _ in self:
            pass
        return cast("Completion", self._reading.completion)

    async def _read(self) -> None:
        """Take one message, or the end, or pause after a failure."""
        if self._left.is_set():
            self._reading.left()
            return
        try:
            self._call = self._call or self._open()
            message = await (self._direct or self._call).read()
        except grpc.RpcError as error:
            await pause(self._left, await self._failed(error))
        except asyncio.CancelledError:
            if self._left.is_set() or is_ending() or self._direct is None:
                self._leave()
            else:
                # The router's call has failed, and `_watch` has ended the worker's.
                await pause(self._left, await self._failed(await error_of(self._direct)))
        else:
            await self._take(message)

    def _leave(self) -> None:
        self.cancel()
        if is_ending():
            raise asyncio.CancelledError
        # `cancel` was called beside it, or the client was closed.
        self._reading.left()

    async def _take(self, message: object) -> None:
        if isinstance(message, pb.GenerateResponse):
            route = self._reading.took(message)
            if self._reading.error is not None:
                self.cancel()
            elif route is not None:
                await self._follow(route)
        elif self._direct is not None:
            # What the router has to tell is left.
            self._unfollow()
        else:
            self._reading.ended()

    async def _follow(self, route: pb.Route) -> None:
        """Read from the worker, unless the router's call fails meanwhile."""
        router, wait_s = cast("AsyncCall", self._call), self._reading.detour_s(route.address)
        if wait_s is not None:
            router.cancel()
            self._call = None
            await pause(self._left, wait_s)
            return
        self._direct = call = self._at_worker(route)
        watching = watch(router, call)
        self._watching = asyncio.ensure_future(watching)  # noqa: TID251 (held here until its end)

    def _at_worker(self, route: pb.Route) -> AsyncCall:
        request = pb.StreamRequest(grant=route.grant)
        with self._reading.kept.calling():
            # Held while it is read: a channel that nobody holds ends under its calls.
            self._worker = self._workers.to(route.address)
            stub = pb_grpc.DirectStub(self._worker)
            return cast("AsyncCall", stub.Stream(request, timeout=self._reading.left_s()))

    def _unfollow(self) -> None:
        self._direct = None
        if self._watching is not None:
            self._watching.cancel()

    async def _failed(self, error: grpc.RpcError) -> float:
        router, direct = self._call, self._direct
        self._unfollow()
        if direct is not None and self._reading.has_all:
            return 0.0
        self._call = None
        if router is None or direct is None:
            return self._reading.failed(error)
        told = None
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(WORD_S):
                    told = await error_of(router) if await router.code() is not OK else None
        finally:
            # Also where this task is cancelled meanwhile: nobody else knows of the call any more.
            router.cancel()
        return self._reading.broke(error, told)

    def _open(self) -> AsyncCall:
        arguments = self._reading.call_arguments()
        first, *others = self._stubs[min(self._reading.attempt, len(self._stubs)) - 1 :]
        try:
            return self._begun(first, arguments)
        except aio.UsageError:
            # The session was closed, and its connection with it.
            if not others:
                raise
            return self._begun(others[0], arguments)

    def _begun(self, stub: "pb_grpc.BatonAsyncStub", arguments: dict[str, Any]) -> AsyncCall:
        with self._reading.kept.calling():
            return stub.Generate(**arguments)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cancel()
        self._reading.left()


async def pause(event: asyncio.Event, seconds: float) -> None:
    """Let time pass, until something happens."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def is_ending() -> bool:
    """Whether the running task itself is being cancelled, and not just a call of its own."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
