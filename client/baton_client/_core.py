"""What the two clients share: their options, the calls that have one answer, reading a stream."""

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypedDict, TypeVar

import grpc

from baton_client._asking import Asking, Unary
from baton_client._direct import Reach, resumable
from baton_client._kept import Kept
from baton_client.answers import (
    Answer,
    Completion,
    Embeddings,
    Model,
    Piece,
    TokenCount,
    usage,
    vectors,
)
from baton_client.connection import TlsOptions, connect
from baton_client.errors import (
    BatonError,
    DuplicateRequestError,
    RequestCancelledError,
    ServerError,
    from_rpc,
)
from baton_client.prompts import Ask, Prompt, prompt_message, put
from baton_client.retries import Attempts, Budget, Retries
from baton_client.v1 import service_pb2 as pb

DEADLINE_SLACK_S = 0.5
"""How long before the client's deadline a server may take it for passed."""

E = TypeVar("E", threading.Event, asyncio.Event)
Headers = tuple[tuple[str, str], ...]


class ClientOptions(TypedDict, total=False):
    """What `Client` and `AsyncClient` take besides the routers.

    api_key: sent as `authorization: Bearer`; over plaintext only to this machine.
    tenant: whom the requests count for, where the key does not say.
    tls: how to encrypt; None = not at all.
    plaintext_key_ok: send the key unencrypted to other machines too, on a trusted network; and
        follow routers on this machine to workers on others.
    model: which model to ask; "" = the one that is served.
    timeout_s: seconds for a whole call, retries included, from the first time that a stream is
        read; None = for ever. Default 600.
    retries: how failed calls are made again; None = never.
    direct: read answers from the decode workers, past the routers, where the cluster offers that.
        A stream that breaks goes on through a router. Pieces then always carry token ids.
    """

    api_key: str | None
    tenant: str | None
    tls: TlsOptions | None
    plaintext_key_ok: bool
    model: str
    timeout_s: float | None
    retries: Retries | None
    direct: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Settings:
    """The options with their defaults."""

    api_key: str | None = None
    tenant: str | None = None
    tls: TlsOptions | None = None
    plaintext_key_ok: bool = False
    model: str = ""
    timeout_s: float | None = 600.0
    retries: Retries | None = field(default_factory=Retries)
    direct: bool = False


class Core:
    """The checked options of a client, and what follows from them without a channel."""

    def __init__(self, routers: str | Sequence[str], options: ClientOptions) -> None:
        settings = _Settings(**options)
        key = None if settings.api_key is None else f"Bearer {settings.api_key}"
        headers = {"authorization": key, "x-baton-tenant": settings.tenant}
        exposed_ok = settings.plaintext_key_ok
        self.connection = connect(routers, settings.tls, headers, plaintext_key_ok=exposed_ok)
        self.model = settings.model
        self.direct = settings.direct
        self.reach = Reach()
        self._timeout_s = settings.timeout_s
        self._budget = Budget(settings.retries or Retries(attempts=1))

    def attempts(self, timeout_s: float | None) -> Attempts:
        """The attempts at a call; `timeout_s` None = the client's, infinite = no deadline."""
        seconds = self._timeout_s if timeout_s is None else timeout_s
        return Attempts(self._budget, None if seconds == math.inf else seconds)

    def asking(self, call: Unary[Any], timeout_s: float | None) -> Asking:
        """Whom a call with one answer is asked of."""
        ends = self.connection.ends
        several = call.everywhere and len(ends) > 1
        return Asking(self.attempts(timeout_s), ends if several else (None,))

    def count_tokens(self, prompt: Prompt, model: str, ids: bool) -> Unary[TokenCount]:
        """The call that counts a prompt's tokens."""
        request = pb.CountTokensRequest(return_token_ids=ids)
        put(request, "model", model or self.model)
        request.prompt.CopyFrom(prompt_message(prompt))

        def read(reply: pb.CountTokensResponse) -> TokenCount:
            return TokenCount(reply.tokens, tuple(reply.token_ids), reply.max_model_len_tokens)

        return Unary("CountTokens", request, read)

    def embed(self, texts: str | Sequence[str], model: str) -> Unary[Embeddings]:
        """The call that embeds texts."""
        request = pb.EmbedRequest()
        put(request, "model", model or self.model)
        put(request, "texts", [texts] if isinstance(texts, str) else texts)

        def read(reply: pb.EmbedResponse) -> Embeddings:
            return Embeddings(vectors(reply.embeddings), usage(reply.usage))

        return Unary("Embed", request, read)

    def models(self) -> Unary[list[Model]]:
        """The call that lists what is served."""

        def read(reply: pb.ListModelsResponse) -> list[Model]:
            return [
                Model(m.name, m.max_model_len_tokens, m.can_generate, m.can_embed)
                for m in reply.models
            ]

        return Unary("ListModels", pb.ListModelsRequest(), read)

    def story(self, request_id: str) -> Unary[str]:
        """The call that tells what became of a request."""

        def read(reply: pb.GetStoryResponse) -> str:
            return reply.text

        request = pb.GetStoryRequest()
        put(request, "request_id", request_id)
        return Unary("GetStory", request, read, everywhere=True)


class Reading:
    """One streamed answer, whoever reads the messages: its pieces, attempts and end."""

    def __init__(
        self, core: Core, kept: Kept[Any], ask: Ask, done: Callable[[Completion], None] | None
    ) -> None:
        self._core = core
        self.kept = kept
        self._ask = ask
        self._done = done
        self._headers: Headers = core.connection.metadata + ask.metadata
        self._answer = Answer(ask.request.sampling.n or 1)
        self._attempts = core.attempts(ask.timeout_s)
        wanted = core.direct if ask.direct is None else ask.direct
        self._direct = wanted and ask.request.sampling.n <= 1
        self._routed = self._followed = self._goes_on = False
        self._sent = 0
        self.pieces: deque[Piece] = deque()
        self.completion: Completion | None = None
        self.error: BatonError | None = None

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1."""
        return self._attempts.failures + 1

    @property
    def has_all(self) -> bool:
        """Whether a direct answer has its last piece: what is still to come just counts it."""
        return self._followed and self._answer.finished

    def call_arguments(self) -> dict[str, Any]:
        """What the next attempt is called with. Raises RequestCancelledError after `close`."""
        self.kept.check_open()
        self._answer.start(time.monotonic())
        request = self._ask.attempt()
        request.direct = self._direct and not self._routed and self._core.reach.ask()
        request.return_token_ids |= self._direct
        request.resume_token_ids[:] = sent = self._answer.resume()
        self._sent = len(sent)
        self._answer.request_id = request.request_id
        timeout_s = self._attempts.left_s()
        return {"request": request, "timeout": timeout_s, "metadata": self._headers}

    def left_s(self) -> float | None:
        """Seconds until the deadline."""
        return self._attempts.left_s()

    def took(self, message: pb.GenerateResponse) -> pb.Route | None:
        """Take a message; where its pieces are to be read, if not in this call.

        Where a router begins anew instead of going on, `error` is set, and the call is of no use.
        """
        if message.request_id and message.resumed_tokens != self._sent:
            name = self._answer.request_id
            self.error = ServerError("the router cannot resume this answer", request_id=name)
            return None
        self.pieces.extend(self._answer.add(message, time.monotonic()))
        if self._followed and not self._routed and self.pieces:
            self._core.reach.succeeded()
        if not message.HasField("route"):
            return None
        self._followed = True
        self._goes_on = resumable(self._ask.request.sampling)
        return message.route

    def detour_s(self, address: str) -> float | None:
        """None = read from the worker there; otherwise the seconds before a router is asked."""
        if self._core.connection.may_read_from(address):
            return None
        self._routed = True
        self._core.reach.failed(math.inf)
        return self._attempts.fall_back_s()

    def ended(self) -> None:
        """Take the end of the call. Raises ServerError where the answer is not whole."""
        try:
            self.completion = self._answer.whole(time.monotonic(), self.attempt)
        except BatonError as error:
            self.error = error
            raise
        self._attempts.succeeded()
        if self._done is not None:
            self._done(self.completion)

    def failed(self, rpc_error: grpc.RpcError) -> float:
        """Take a failure: the seconds to wait before the next attempt, or the typed error.

        An answer that has its last piece has ended all the same.
        """
        if self.has_all:
            self.ended()
            return 0.0
        return self._pause_s(from_rpc(rpc_error, self._answer.request_id), counts=True)

    def broke(self, rpc_error: grpc.RpcError, told: grpc.RpcError | None) -> float:
        """Take the failure of a direct stream: as `failed`, but the rest comes through a router.

        `told` is how the router's own call has failed, None if it has not. It knows why, unless all
        it knows is that the stream was left. A worker that was not reached at all takes no attempt
        of `Retries` but the one that falls back.
        """
        self._routed = True
        error = from_rpc(rpc_error, self._answer.request_id)
        left_s = self._attempts.left_s()
        # A worker also gives up on who reads too slowly, long before the deadline.
        in_time = left_s is None or left_s > DEADLINE_SLACK_S
        error.retryable = in_time or error.status is not grpc.StatusCode.DEADLINE_EXCEEDED
        if told is not None and told.code() is not grpc.StatusCode.CANCELLED:
            error = from_rpc(told, self._answer.request_id)
        elif not self._answer.begun and error.retryable:
            self._core.reach.failed()
            return self._attempts.fall_back_s()
        return self._pause_s(error, counts=False)

    def _pause_s(self, error: BatonError, *, counts: bool) -> float:
        # What is in the way is this very request, on its way out.
        if isinstance(error, DuplicateRequestError) and self._attempts.failures:
            error.retryable = True
        again = not self._answer.begun or self._goes_on
        try:
            return self._attempts.pause_s(error, again=again, counts=counts)
        except BatonError:
            self.error = error
            raise

    def left(self) -> None:
        """Note that the caller went before the end."""
        if self.completion is None and self.error is None:
            text = "the client is closed" if self.kept.closed.is_set() else "left before the end"
            self.error = RequestCancelledError(text, request_id=self._answer.request_id)

    def next_piece(self) -> Piece | None:
        """A piece that has arrived. Raises the error that ended the stream."""
        if self.pieces:
            return self.pieces.popleft()
        if self.error is not None:
            raise self.error
        return None

    def so_far(self) -> Completion:
        """What has arrived."""
        return self.completion or self._answer.so_far(time.monotonic(), self.attempt)


class Leaving(Generic[E]):
    """The end of a stream before its time, whichever way it is read."""

    _reading: Reading
    _left: E
    _call: Any = None
    _direct: Any = None

    @property
    def so_far(self) -> Completion:
        """What has arrived, also when the rest never will."""
        return self._reading.so_far()

    def cancel(self) -> None:
        """Stop the request; whoever reads it gets RequestCancelledError.

        From any thread, but for streams of an event loop.
        """
        self._left.set()
        # The router first: what it hears from the worker then is no news.
        for call in (self._call, self._direct):
            if call is not None:
                call.cancel()

    def __del__(self) -> None:
        # What listens for the router's end holds both calls: nothing else would end them.
        self.cancel()
