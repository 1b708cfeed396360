"""The client for programs without an event loop. It may be shared by any number of threads."""

import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, Self, TypeVar, Unpack, cast

import grpc

from baton_client import batch
from baton_client._core import ClientOptions, Core, Reading, Unary
from baton_client._direct import OK, QUIET, WORD_S, Call, Channels
from baton_client.answers import Completion, Embeddings, Model, Piece, TokenCount
from baton_client.errors import BatonError, from_rpc
from baton_client.prompts import Ask, GenerateOptions, Message, Prompt, generate_ask
from baton_client.session import History, opening
from baton_client.v1 import service_pb2 as pb
from baton_client.v1 import service_pb2_grpc as pb_grpc

T = TypeVar("T")


class Stream(Iterator[Piece]):
    """An answer that arrives piece by piece. Leave it early and the cluster stops working on it.

    with client.stream("Tell me a story") as stream:
        for piece in stream:
            print(piece, end="", flush=True)
    print(stream.result().usage)
    """

    def __init__(
        self,
        stubs: Sequence[pb_grpc.BatonStub],
        reading: Reading,
        workers: Channels[grpc.Channel],
    ) -> None:
        self._stubs = stubs
        self._workers = workers
        self._direct: Call | None = None
        self._reading = reading
        self._call: Call | None = None
        self._left = threading.Event()

    def __next__(self) -> Piece:
        while (piece := self._reading.next_piece()) is None:
            if self._reading.completion is not None:
                raise StopIteration
            self._read()
        return piece

    def result(self) -> Completion:
        """Read what is left; the whole answer. Raises BatonError where there is none."""
        for _ in self:
            pass
        return cast("Completion", self._reading.completion)

    @property
    def so_far(self) -> Completion:
        """What has arrived, also when the rest never will."""
        return self._reading.so_far()

    def cancel(self) -> None:
        """Stop the request, from any thread; whoever reads it gets RequestCancelledError."""
        self._left.set()
        # The router first: what it hears from the worker then is no news.
        for call in (self._call, self._direct):
            if call is not None:
                call.cancel()

    def __del__(self) -> None:
        # What listens for the router's end holds both calls: nothing else would end them.
        self.cancel()

    def _read(self) -> None:
        """Take one message, or the end, or pause after a failure."""
        if self._left.is_set():
            self._reading.left()
            return
        try:
            self._call = self._call or self._open()
            message = next(self._direct or self._call, None)
        except grpc.RpcError as error:
            if not self._left.is_set():
                self._left.wait(self._failed(error))
        else:
            self._take(message)

    def _take(self, message: pb.GenerateResponse | None) -> None:
        if message is not None:
            route = self._reading.took(message)
            if self._reading.error is not None:
                self.cancel()
            elif route is not None:
                self._follow(route)
        elif self._direct is not None:
            # What the router has to tell is left.
            self._direct = None
        else:
            self._reading.ended()

    def _follow(self, route: pb.Route) -> None:
        """Read from the worker, unless the router's call fails meanwhile."""
        if self._call is not None and not self._reading.may_follow(route.address):
            self._call.cancel()
            self._call = None
            return
        stub, router = pb_grpc.DirectStub(self._workers.to(route.address)), self._call
        request = pb.StreamRequest(grant=route.grant)
        self._direct = call = cast("Call", stub.Stream(request, timeout=self._reading.left_s()))

        def ended() -> None:
            if router is not None and router.code() not in QUIET:
                call.cancel()

        if router is not None and not router.add_callback(ended):
            ended()
        if self._left.is_set():
            call.cancel()

    def _failed(self, error: grpc.RpcError) -> float:
        router, direct = self._call, self._direct
        self._direct = None
        if direct is not None and self._reading.has_all:
            return 0.0
        self._call = None
        if router is None or direct is None:
            return self._reading.failed(error)
        over = threading.Event()
        ended = not router.add_callback(over.set) or over.wait(WORD_S)
        told = router if ended and router.code() is not OK else None
        router.cancel()
        return self._reading.broke(error, cast("grpc.RpcError | None", told))

    def _open(self) -> "Call":
        stub = self._stubs[min(self._reading.attempt, len(self._stubs)) - 1]
        call = cast("Call", stub.Generate(**self._reading.call_arguments()))
        self._call = call
        # `cancel` may have come from another thread before there was a call.
        if self._left.is_set():
            call.cancel()
        return call

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()
        self._reading.left()


class Session(History):
    """A conversation with memory: each turn sends what was said before.

    That is what makes it fast: workers are chosen by the prompt's prefix, so a turn finds the KV
    of those before it. The session also keeps to one router while that takes its requests. A turn
    that fails or is left early is not remembered. Use a session from one thread at a time.

        with client.session(system="Be brief.") as chat:
            print(chat.send("Who wrote Faust?"))
            print(chat.send("When?"))
    """

    def __init__(
        self, client: "Client", messages: Sequence[Message], options: GenerateOptions
    ) -> None:
        super().__init__(messages, options)
        self._client = client
        self._channel = client.sticky_channel()

    def send(self, text: str, **options: Unpack[GenerateOptions]) -> Completion:
        """Say something; the answer. Raises BatonError."""
        with self.stream(text, **options) as stream:
            return stream.result()

    def stream(self, text: str, **options: Unpack[GenerateOptions]) -> Stream:
        """Say something; the answer as it comes. It is remembered once it is whole."""
        ask = self.ask(text, options, self._client.core.model)
        return self._client.open_stream(ask, self._channel, self.remember(text))

    def close(self) -> None:
        """Give the connection back."""
        if self._channel is not None:
            self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Client:
    """Asks a Baton cluster.

    `routers` is HOST:PORT, a list of IP:PORT, or one DNS name that stands for all routers; calls
    go in turn to those that are healthy. `ClientOptions` lists the keyword arguments. Everything
    raises `BatonError`; wrong options raise ValueError or TypeError.

        with Client("localhost:8001") as client:
            print(client.generate("Hello", max_tokens=20))
    """

    def __init__(self, routers: str | Sequence[str], **options: Unpack[ClientOptions]) -> None:
        self.core = Core(routers, options)
        self._channels: weakref.WeakSet[grpc.Channel] = weakref.WeakSet()
        self._workers = Channels(self._open_direct)

    @cached_property
    def _channel(self) -> grpc.Channel:
        return self._open()

    @cached_property
    def _stub(self) -> pb_grpc.BatonStub:
        return pb_grpc.BatonStub(self._channel)

    def generate(self, prompt: Prompt, **options: Unpack[GenerateOptions]) -> Completion:
        """The whole answer to a prompt.

        client.generate([{"role": "user", "content": "Hello"}], temperature=0, max_tokens=20)
        """
        with self.stream(prompt, **options) as stream:
            return stream.result()

    def stream(self, prompt: Prompt, **options: Unpack[GenerateOptions]) -> Stream:
        """The answer to a prompt as it comes. Nothing is sent before the first piece is read."""
        return self.open_stream(generate_ask(prompt, options, self.core.model))

    def map(
        self,
        prompts: Iterable[Prompt],
        *,
        concurrency: int = 16,
        progress: bool | None = None,
        **options: Unpack[GenerateOptions],
    ) -> list[Completion | BatonError]:
        """Answer many prompts, `concurrency` at a time; results in the order of the prompts.

        A prompt that fails has its error as result. `progress` draws a bar on stderr: True, False,
        or None = if that is a terminal.

            answers = client.map(prompts, concurrency=32, max_tokens=100)
            failed = [answer for answer in answers if isinstance(answer, BatonError)]
        """
        batch.refuse_name(options)
        todo = batch.Batch(prompts, concurrency, progress)
        return batch.run(lambda prompt: self.stream(prompt, **options), todo)

    def count_tokens(
        self,
        prompt: Prompt,
        *,
        model: str = "",
        return_token_ids: bool = False,
        timeout_s: float | None = None,
    ) -> TokenCount:
        """Count a prompt's tokens as `generate` would read it.

        client.count_tokens("Hello").tokens
        """
        return self._ask(self.core.count_tokens(prompt, model, return_token_ids), timeout_s)

    def embed(
        self, texts: str | Sequence[str], *, model: str = "", timeout_s: float | None = None
    ) -> Embeddings:
        """Embed texts. Raises UnsupportedError where the model cannot.

        client.embed(["one", "two"]).vectors[0]
        """
        return self._ask(self.core.embed(texts, model), timeout_s)

    def models(self, *, timeout_s: float | None = None) -> list[Model]:
        """What is served."""
        return self._ask(self.core.models(), timeout_s)

    def story(self, request_id: str, *, timeout_s: float | None = None) -> str:
        """What became of a request, one line per event. Raises NotFoundError once forgotten.

        Only the router that took the request knows it: where a list of routers was given, the
        others are asked too.
        """
        return self._ask(self.core.story(request_id), timeout_s)

    def session(
        self,
        *,
        system: str | None = None,
        messages: Sequence[Message] = (),
        **options: Unpack[GenerateOptions],
    ) -> Session:
        """Begin a conversation, or go on with `messages`; the options hold for all its turns."""
        return Session(self, opening(system, messages), options)

    def close(self) -> None:
        """Close all connections; running requests fail with RequestCancelledError."""
        self.core.closed = True
        for channel in list(self._channels):
            channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open_stream(
        self,
        ask: Ask,
        sticky: grpc.Channel | None = None,
        done: Callable[[Completion], None] | None = None,
    ) -> Stream:
        """For sessions: the first attempt goes to `sticky`, others to any router."""
        stubs = [self._stub] if sticky is None else [pb_grpc.BatonStub(sticky), self._stub]
        return Stream(stubs, Reading(self.core, ask, done), self._workers)

    def sticky_channel(self) -> grpc.Channel | None:
        """For sessions: a channel that keeps to one router; None where there is but one."""
        return self._open(sticky=True) if self.core.connection.may_be_several else None

    def _open(self, *, sticky: bool = False) -> grpc.Channel:
        where = self.core.connection
        return self._connect(where.target, where.options(sticky=sticky))

    def _open_direct(self, address: str) -> grpc.Channel:
        return self._connect(address, self.core.connection.direct_options())

    def _connect(self, target: str, options: list[tuple[str, Any]]) -> grpc.Channel:
        credentials = self.core.connection.credentials
        if credentials is None:
            channel = grpc.insecure_channel(target, options)
        else:
            channel = grpc.secure_channel(target, credentials, options)
        self._channels.add(channel)
        return channel

    def _ask(self, call: Unary[T], timeout_s: float | None) -> T:
        attempts = self.core.attempts(timeout_s, call.elsewhere)
        method = getattr(self._stub, call.method)
        while True:
            self.core.check_open()
            headers, left_s = self.core.connection.metadata, attempts.left_s()
            try:
                reply = method(call.request, timeout=left_s, metadata=headers)
            except grpc.RpcError as error:
                time.sleep(attempts.pause_s(from_rpc(error)))
            else:
                attempts.succeeded()
                return call.read(reply)
