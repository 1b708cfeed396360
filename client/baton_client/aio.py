"""The client for programs with an event loop. It belongs to the loop that first uses it."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any, Self, TypeVar, Unpack

import grpc
from grpc import aio

from baton_client import batch
from baton_client._asking import Unary
from baton_client._core import ClientOptions, Core, Reading
from baton_client._direct import Channels
from baton_client._kept import Kept
from baton_client.aio_stream import AsyncStream, is_ending, pause
from baton_client.answers import Completion, Embeddings, Model, TokenCount
from baton_client.connection import Options
from baton_client.errors import BatonError, RequestCancelledError, from_rpc
from baton_client.prompts import Ask, GenerateOptions, Message, Prompt, generate_ask
from baton_client.session import History, opening
from baton_client.v1 import service_pb2_grpc as pb_grpc

T = TypeVar("T")


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
        self._channel: aio.Channel | None = None
        self._begun = False

    async def send(self, text: str, **options: Unpack[GenerateOptions]) -> Completion:
        """Say something; the answer. Raises BatonError."""
        async with self.stream(text, **options) as stream:
            return await stream.result()

    def stream(self, text: str, **options: Unpack[GenerateOptions]) -> AsyncStream:
        """Say something; the answer as it comes. It is remembered once it is whole."""
        self._client.check_open()
        if not self._begun:
            self._channel, self._begun = self._client.sticky_channel(), True
        ask = self.ask(text, options, self._client.core.model)
        return self._client.open_stream(ask, self._channel, self.remember(text))

    async def close(self) -> None:
        """Give the connection back. Turns after it go to any router."""
        channel, self._channel, self._begun = self._channel, None, True
        if channel is not None:
            await channel.close(None)

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
        self._kept: Kept[aio.Channel] = Kept()
        self._closing = asyncio.Event()
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
        channels = self._kept.close()
        self._closing.set()
        for channel in channels:
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
        stream = AsyncStream(stubs, Reading(self.core, self._kept, ask, done), self._workers)
        self._kept.stream(stream)
        return stream

    def check_open(self) -> None:
        """For sessions: raises RequestCancelledError once the client is closed."""
        self._kept.check_open()

    def sticky_channel(self) -> aio.Channel | None:
        """For sessions: a channel that keeps to one router; None where there is but one."""
        return self._open(sticky=True) if self.core.connection.may_be_several else None

    def _open(self, *, sticky: bool = False) -> aio.Channel:
        where = self.core.connection
        return self._connect(where.target, where.options(sticky=sticky))

    def _open_direct(self, address: str) -> aio.Channel:
        return self._connect(address, self.core.connection.direct_options())

    def _connect(self, target: str, options: Options) -> aio.Channel:
        return self._kept.channel(lambda: self.core.connection.opened(aio, target, options))

    async def _ask(self, call: Unary[T], timeout_s: float | None) -> T:
        asking = self.core.asking(call, timeout_s)
        while True:
            self._kept.check_open()
            try:
                reply = await self._reply(call, asking.end, asking.left_s())
            except grpc.RpcError as error:
                self._kept.check_open()
                await pause(self._closing, asking.failed(from_rpc(error)))
            except asyncio.CancelledError as error:
                if is_ending():
                    raise
                raise RequestCancelledError("the client is closed") from error
            else:
                asking.succeeded()
                return call.read(reply)

    async def _reply(self, call: Unary[Any], end: str | None, left_s: float | None) -> Any:
        """What one router says, or any of them."""
        arguments = {"timeout": left_s, "metadata": self.core.connection.metadata}
        with self._kept.calling():
            if end is None:
                return await getattr(self._stub, call.method)(call.request, **arguments)
            async with self._connect(end, self.core.connection.end_options()) as channel:
                stub = pb_grpc.BatonStub(channel)
                return await getattr(stub, call.method)(call.request, **arguments)
