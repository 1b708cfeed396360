"""The client for programs without an event loop. It may be shared by any number of threads."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self, TypeVar, Unpack

import grpc

from baton_client import batch
from baton_client._asking import Unary
from baton_client._core import ClientOptions, Core, Reading
from baton_client._direct import Channels
from baton_client._kept import Kept
from baton_client.answers import Completion, Embeddings, Model, TokenCount
from baton_client.connection import Options
from baton_client.errors import BatonError, from_rpc
from baton_client.prompts import Ask, GenerateOptions, Message, Prompt, generate_ask
from baton_client.session import History, opening
from baton_client.stream import Stream
from baton_client.v1 import service_pb2_grpc as pb_grpc

T = TypeVar("T")


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
        self._client.check_open()
        ask = self.ask(text, options, self._client.core.model)
        return self._client.open_stream(ask, self._channel, self.remember(text))

    def close(self) -> None:
        """Give the connection back. Turns after it go to any router."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

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
        self._kept: Kept[grpc.Channel] = Kept()
        self._workers = Channels(self._open_direct)
        self._channel = self._open()
        self._stub = self._stub_of(self._channel)

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

        Only the router that took the request knows it: of a list of routers each is asked in turn.
        Where one cannot be asked and no other knows it, that is the error.
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
        for channel in self._kept.close():
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
        stubs = [self._stub] if sticky is None else [self._stub_of(sticky), self._stub]
        stream = Stream(stubs, Reading(self.core, self._kept, ask, done), self._workers)
        self._kept.stream(stream)
        return stream

    def check_open(self) -> None:
        """For sessions: raises RequestCancelledError once the client is closed."""
        self._kept.check_open()

    def sticky_channel(self) -> grpc.Channel | None:
        """For sessions: a channel that keeps to one router; None where there is but one."""
        return self._open(sticky=True) if self.core.connection.may_be_several else None

    def _open(self, *, sticky: bool = False) -> grpc.Channel:
        where = self.core.connection
        return self._connect(where.target, where.options(sticky=sticky))

    def _open_direct(self, address: str) -> grpc.Channel:
        return self._connect(address, self.core.connection.direct_options())

    def _connect(self, target: str, options: Options) -> grpc.Channel:
        return self._kept.channel(lambda: self.core.connection.opened(grpc, target, options))

    def _stub_of(self, channel: grpc.Channel) -> pb_grpc.BatonStub:
        with self._kept.making():
            return pb_grpc.BatonStub(channel)

    def _ask(self, call: Unary[T], timeout_s: float | None) -> T:
        asking = self.core.asking(call, timeout_s)
        while True:
            self._kept.check_open()
            try:
                reply = self._reply(call, asking.end, asking.left_s())
            except grpc.RpcError as error:
                self._kept.check_open()
                self._kept.closed.wait(asking.failed(from_rpc(error)))
            else:
                asking.succeeded()
                return call.read(reply)

    def _reply(self, call: Unary[Any], end: str | None, left_s: float | None) -> Any:
        """What one router says, or any of them."""
        arguments = {"timeout": left_s, "metadata": self.core.connection.metadata}
        with self._kept.calling():
            if end is None:
                return getattr(self._stub, call.method)(call.request, **arguments)
            with self._connect(end, self.core.connection.end_options()) as channel:
                return getattr(self._stub_of(channel), call.method)(call.request, **arguments)
