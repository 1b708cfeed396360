"""The client for programs with an event loop. It belongs to the loop that first uses it."""

import asyncio
import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any, Self, TypeVar, Unpack, cast

import grpc
from grpc import aio

from baton_client import batch
from baton_client._core import ClientOptions, Core, Reading, Unary
from baton_client._direct import OK, WORD_S, AsyncCall, Channels, error_of, watch
from baton_client.answers import Completion, Embeddings, Model, Piece, TokenCount
from baton_client.errors import BatonError, RequestCancelledError, from_rpc
from baton_client.prompts import Ask, GenerateOptions, Message, Prompt, generate_ask
from baton_client.session import History, opening
from baton_client.v1 import service_pb2 as pb
from baton_client.v1 import service_pb2_grpc as pb_grpc

T = TypeVar("T")


class AsyncStream(AsyncIterator[Piece]):
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
        self._stubs = stubs
        self._workers = workers
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

    @property
    def so_far(self) -> Completion:
        """What has arrived, also when the rest never will."""
        return self._reading.so_far()

    def cancel(self) -> None:
        """Stop the request; whoever reads it gets RequestCancelledError."""
        self._left.set()
        # The router first: what it hears from the worker then is no news.
        for call in (self._call, self._direct):
            if call is not None:
                call.cancel()

    def __del__(self) -> None:
        # What listens for the router's end holds both calls: nothing else would end them.
        self.cancel()

    async def _read(self) -> None:
        """Take one message, or the end, or pause after a failure."""
        if self._left.is_set():
            self._reading.left()
            return
        try:
            self._call = self._call or self._open()
            message = await (self._direct or self._call).read()
        except grpc.RpcError as error:
            await self._pause(await self._failed(error))
        except asyncio.CancelledError:
            if self._left.is_set() or _is_ending() or self._direct is None:
                self._leave()
            else:
                # The router's call has failed, and `_watch` has ended the worker's.
                await self._pause(await self._failed(await error_of(self._direct)))
        else:
            self._take(message)

    def _leave(self) -> None:
        self.cancel()
        if _is_ending():
            raise asyncio.CancelledError
        # `cancel` was called beside it, or the client was closed.
        self._reading.left()

    def _take(self, message: object) -> None:
        if isinstance(message, pb.GenerateResponse):
            route = self._reading.took(message)
            if self._reading.error is not None:
                self.cancel()
            elif route is not None:
                self._follow(route)
        elif self._direct is not None:
            # What the router has to tell is left.
            self._unfollow()
        else:
            self._reading.ended()

    def _follow(self, route: pb.Route) -> None:
        """Read from the worker, unless the router's call fails meanwhile."""
        if self._call is not None and not self._reading.may_follow(route.address):
            self._call.cancel()
            self._call = None
            return
        stub = pb_grpc.DirectStub(self._workers.to(route.address))
        request, left_s = pb.StreamRequest(grant=route.grant), self._reading.left_s()
        self._direct = call = cast("AsyncCall", stub.Stream(request, timeout=left_s))
        watching = watch(cast("AsyncCall", self._call), call)
        self._watching = asyncio.ensure_future(watching)  # noqa: TID251 (held here until its end)

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
            async with asyncio.timeout(WORD_S):
                told = await error_of(router) if await router.code() is not OK else None
        except TimeoutError:
            router.cancel()
        return self._reading.broke(error, told)

    def _open(self) -> "aio.UnaryStreamCall[pb.GenerateRequest, pb.GenerateResponse]":
        stub = self._stubs[min(self._reading.attempt, len(self._stubs)) - 1]
        return stub.Generate(**self._reading.call_arguments())

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._left.wait()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cancel()
        self._reading.left()


def _is_ending() -> bool:
    """Whether the running task itself is being cancelled, and not just a call of its own."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


class AsyncSession(History):
    """A conversation with memory; see `Session`.

    async with client.session(system="Be brief.") as chat:
        print(await chat.send("Who wrote Faust?"))
        print(await chat.send("When?"))
    """

    def __init__(
        self, client: "AsyncClient", messages: Sequence[Message], options: GenerateOptions
    ) -> None:
        super().__init__(messages, options)
        self._client = client

    @cached_property
    def _channel(self) -> aio.Channel | None:
        return self._client.sticky_channel()

    async def send(self, text: str, **options: Unpack[GenerateOptions]) -> Completion:
        """Say something; the answer. Raises BatonError."""
        async with self.stream(text, **options) as stream:
            return await stream.result()

    def stream(self, text: str, **options: Unpack[GenerateOptions]) -> AsyncStream:
        """Say something; the answer as it comes. It is remembered once it is whole."""
        ask = self.ask(text, options, self._client.core.model)
        return self._client.open_stream(ask, self._channel, self.remember(text))

    async def close(self) -> None:
        """Give the connection back."""
        if self._channel is not None:
            await self._channel.close(None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class AsyncClient:
    """Asks a Baton cluster; `Client` says what its arguments are.

    async with AsyncClient("localhost:8001") as client:
        print(await client.generate("Hello", max_tokens=20))
    """

    def __init__(self, routers: str | Sequence[str], **options: Unpack[ClientOptions]) -> None:
        self.core = Core(routers, options)
        self._channels: weakref.WeakSet[aio.Channel] = weakref.WeakSet()
        self._workers = Channels(self._open_direct)

    # Opened at the first call, when the loop runs that it belongs to.
    @cached_property
    def _channel(self) -> aio.Channel:
        return self._open()

    @cached_property
    def _stub(self) -> "pb_grpc.BatonAsyncStub":
        return pb_grpc.BatonStub(self._channel)

    async def generate(self, prompt: Prompt, **options: Unpack[GenerateOptions]) -> Completion:
        """The whole answer to a prompt."""
        async with self.stream(prompt, **options) as stream:
            return await stream.result()

    def stream(self, prompt: Prompt, **options: Unpack[GenerateOptions]) -> AsyncStream:
        """The answer to a prompt as it comes. Nothing is sent before the first piece is read."""
        return self.open_stream(generate_ask(prompt, options, self.core.model))

    async def map(
        self,
        prompts: Iterable[Prompt],
        *,
        concurrency: int = 16,
        progress: bool | None = None,
        **options: Unpack[GenerateOptions],
    ) -> list[Completion | BatonError]:
        """Answer many prompts, `concurrency` at a time; see `Client.map`."""
        batch.refuse_name(options)
        todo = batch.Batch(prompts, concurrency, progress)
        return await batch.run_async(lambda prompt: self.stream(prompt, **options), todo)

    async def count_tokens(
        self,
        prompt: Prompt,
        *,
        model: str = "",
        return_token_ids: bool = False,
        timeout_s: float | None = None,
    ) -> TokenCount:
        """Count a prompt's tokens as `generate` would read it."""
        return await self._ask(self.core.count_tokens(prompt, model, return_token_ids), timeout_s)

    async def embed(
        self, texts: str | Sequence[str], *, model: str = "", timeout_s: float | None = None
    ) -> Embeddings:
        """Embed texts. Raises UnsupportedError where the model cannot."""
        return await self._ask(self.core.embed(texts, model), timeout_s)

    async def models(self, *, timeout_s: float | None = None) -> list[Model]:
        """What is served."""
        return await self._ask(self.core.models(), timeout_s)

    async def story(self, request_id: str, *, timeout_s: float | None = None) -> str:
        """What became of a request, one line per event. Raises NotFoundError once forgotten."""
        return await self._ask(self.core.story(request_id), timeout_s)

    def session(
        self,
        *,
        system: str | None = None,
        messages: Sequence[Message] = (),
        **options: Unpack[GenerateOptions],
    ) -> AsyncSession:
        """Begin a conversation, or go on with `messages`; the options hold for all its turns."""
        return AsyncSession(self, opening(system, messages), options)

    async def close(self) -> None:
        """Close all connections; running requests fail with RequestCancelledError."""
        self.core.closed = True
        for channel in list(self._channels):
            await channel.close(None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def open_stream(
        self,
        ask: Ask,
        sticky: aio.Channel | None = None,
        done: Callable[[Completion], None] | None = None,
    ) -> AsyncStream:
        """For sessions: the first attempt goes to `sticky`, others to any router."""
        stubs = [self._stub] if sticky is None else [pb_grpc.BatonStub(sticky), self._stub]
        return AsyncStream(stubs, Reading(self.core, ask, done), self._workers)

    def sticky_channel(self) -> aio.Channel | None:
        """For sessions: a channel that keeps to one router; None where there is but one."""
        return self._open(sticky=True) if self.core.connection.may_be_several else None

    def _open(self, *, sticky: bool = False) -> aio.Channel:
        where = self.core.connection
        return self._connect(where.target, where.options(sticky=sticky))

    def _open_direct(self, address: str) -> aio.Channel:
        return self._connect(address, self.core.connection.direct_options())

    def _connect(self, target: str, options: list[tuple[str, Any]]) -> aio.Channel:
        credentials = self.core.connection.credentials
        if credentials is None:
            channel = aio.insecure_channel(target, options)
        else:
            channel = aio.secure_channel(target, credentials, options)
        self._channels.add(channel)
        return channel

    async def _ask(self, call: Unary[T], timeout_s: float | None) -> T:
        attempts = self.core.attempts(timeout_s, call.elsewhere)
        method = getattr(self._stub, call.method)
        while True:
            self.core.check_open()
            headers, left_s = self.core.connection.metadata, attempts.left_s()
            try:
                reply = await method(call.request, timeout=left_s, metadata=headers)
            except grpc.RpcError as error:
                await asyncio.sleep(attempts.pause_s(from_rpc(error)))
            except asyncio.CancelledError as error:
                if _is_ending():
                    raise
                raise RequestCancelledError("the client was closed") from error
            else:
                attempts.succeeded()
                return call.read(reply)
