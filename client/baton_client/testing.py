"""A Baton cluster for tests: a real gRPC server without a model, on this machine.

with FakeBaton() as fake, Client(fake.address) as client:
    fake.answer("Hello", " there")
    assert client.generate("Hi").text == "Hello there"
    assert fake.requests[0].prompt.text == "Hi"

With pytest:

@pytest.fixture
def fake():
    with FakeBaton() as fake:
        yield fake
"""

import threading
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, NoReturn, Self, TypeAlias

import grpc

from baton_client import _status
from baton_client._played import (
    MAX_MODEL_LEN_TOKENS,
    MODEL,
    Answer,
    Offers,
    Script,
    cut,
    last,
    response,
    words,
)
from baton_client.answers import FinishReason
from baton_client.errors import (
    BatonError,
    NotFoundError,
    RequestCancelledError,
    UnauthenticatedError,
    UnavailableError,
    UnsupportedError,
)
from baton_client.prompts import new_id
from baton_client.v1 import service_pb2 as pb
from baton_client.v1 import service_pb2_grpc as pb_grpc

Context: TypeAlias = grpc.ServicerContext
Method: TypeAlias = Literal["Generate", "Embed", "CountTokens", "ListModels", "GetStory"]
_CALLS_MAX = 128
# grpc.health.v1.HealthCheckResponse with its one field: 1 = SERVING, 2 = NOT_SERVING.
_HEALTH = {True: b"\x08\x01", False: b"\x08\x02"}


class FakeBaton:
    """Answers each prompt with its own words, unless told what to answer or how to fail.

    `address` is where to listen ("127.0.0.1:0" = any free port, or "unix:PATH"), and once it runs
    where it does. With an `api_key` all others are refused. `requests` and `metadata` are what
    `generate` and `stream` have sent, oldest first; `cancelled` counts the answers that were left
    early. A piece counts as one token. If it is `direct`, it offers direct streams, from itself;
    if it `embeds`, it embeds, as no model that generates does. It may be used from any thread, and
    started again once it is stopped.
    """

    def __init__(
        self,
        address: str = "127.0.0.1:0",
        *,
        api_key: str | None = None,
        credentials: grpc.ServerCredentials | None = None,
        direct: bool = False,
        embeds: bool = False,
    ) -> None:
        self.address = address
        self.direct = direct
        self.embeds = embeds
        self.requests: list[pb.GenerateRequest] = []
        self.metadata: list[Mapping[str, str | bytes]] = []
        self.cancelled = 0
        self.calls: dict[str, int] = defaultdict(int)
        self._api_key = api_key
        self._credentials = credentials
        self._scripts: dict[str, deque[Script]] = defaultdict(deque)
        self._lock = threading.Lock()
        self._changed = threading.Condition()
        self._serving, self._running = True, False

    def answer(
        self,
        *pieces: str,
        delay_s: float = 0.0,
        finish_reason: FinishReason = FinishReason.STOP,
        error: BatonError | None = None,
    ) -> None:
        """Answer the next prompt that has no answer yet with these pieces.

        `delay_s` passes before each piece; with an `error` the answer breaks off with it.
        """
        with self._lock:
            self._scripts["Generate"].append(Script(pieces, delay_s, finish_reason, error))

    def fail(self, error: BatonError, *, method: Method = "Generate") -> None:
        """Let the next call fail.

        fake.fail(OverloadedError("full", reason="queue_full", retry_after_s=0.1))
        """
        with self._lock:
            self._scripts[method].append(Script(error=error))

    @property
    def serving(self) -> bool:
        """What the health service says. Calls are answered all the same."""
        return self._serving

    @serving.setter
    def serving(self, serving: bool) -> None:
        with self._changed:
            self._serving = serving
            self._changed.notify_all()

    def start(self) -> Self:
        """Begin to listen, if it does not."""
        if self._running:
            return self
        pings = ("grpc.http2.min_recv_ping_interval_without_data_ms", 5000)
        self._running = True
        self._server = grpc.server(ThreadPoolExecutor(_CALLS_MAX), options=[pings])
        workers = _Workers(self)
        pb_grpc.add_BatonServicer_to_server(_Servicer(self, workers), self._server)
        pb_grpc.add_DirectServicer_to_server(workers, self._server)
        self._server.add_generic_rpc_handlers((self._health(),))
        if self._credentials is None:
            port = self._server.add_insecure_port(self.address)
        else:
            port = self._server.add_secure_port(self.address, self._credentials)
        if not self.address.startswith("unix:"):
            self.address = f"{self.address.rpartition(':')[0]}:{port}"
        self._server.start()
        return self

    def stop(self) -> None:
        """Break off all calls and stop listening."""
        stopped = self._server.stop(None)
        with self._changed:
            self._running = False
            self._changed.notify_all()
        stopped.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def begin(
        self, method: Method, context: Context, request: pb.GenerateRequest | None = None
    ) -> Script:
        """Count a call, check its key, and say what becomes of it. `request` is a prompt's."""
        sent = dict(context.invocation_metadata())
        given = str(sent.get("authorization", "")).removeprefix("Bearer ")
        known = self._api_key in (None, given)
        with self._lock:
            self.calls[method] += 1
            if request is not None:
                self.requests.append(request)
                self.metadata.append(sent)
            scripts = self._scripts[method]
            script = scripts.popleft() if known and scripts else Script()
        if not known:
            abort(context, UnauthenticatedError("wrong API key"))
        if script.error is not None and not script.pieces:
            abort(context, script.error)
        return script

    def played(
        self, request: pb.GenerateRequest, script: Script, context: Context
    ) -> Iterator[pb.GenerateResponse]:
        """The pieces of an answer that the caller has not got yet."""
        pieces, reason = cut(request, script)
        for place in range(len(request.resume_token_ids), len(pieces)):
            if not self.wait(context, script.delay_s):
                abort(context, UnavailableError("the server stops"))
            ends = place == len(pieces) - 1 and script.error is None
            why = reason if ends else pb.FINISH_REASON_UNSPECIFIED
            yield response(request, place, pieces[place], why)

    def ended(self, *, whole: bool) -> None:
        """Note the end of an answer."""
        with self._lock:
            self.cancelled += not whole

    def taken(self) -> None:
        """Count a call that reads an answer directly."""
        with self._lock:
            self.calls["Stream"] += 1

    def wait(self, context: Context, seconds: float) -> bool:
        """Let time pass; False where the caller or the server left meanwhile."""
        context.add_callback(self._wake)
        with self._changed:
            self._changed.wait_for(lambda: not self._lives(context), seconds)
        return self._lives(context)

    def _lives(self, context: Context) -> bool:
        return self._running and context.is_active()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _health(self) -> "grpc.GenericRpcHandler[bytes, bytes]":
        check = grpc.unary_unary_rpc_method_handler(
            lambda _request, _context: _HEALTH[self._serving]
        )
        watch = grpc.unary_stream_rpc_method_handler(self._watch)
        methods = {"Check": check, "Watch": watch}
        return grpc.method_handlers_generic_handler("grpc.health.v1.Health", methods)

    def _watch(self, _request: bytes, context: Context) -> Iterator[bytes]:
        context.add_callback(self._wake)
        said = None
        while self._lives(context):
            if said is not self._serving:
                said = self._serving
                yield _HEALTH[said]
            with self._changed:
                if said is self._serving and self._lives(context):
                    self._changed.wait()


def abort(context: Context, error: BatonError) -> NoReturn:
    """End a call with an error, as a router does."""
    metadata = {} if error.param is None else {"param": error.param}
    details = _status.Details(error.reason, metadata, error.retry_after_s)
    data = _status.encode(error.status.value[0], error.message, details)
    context.set_trailing_metadata(((_status.KEY, data),))
    context.abort(error.status, error.message)


class _Servicer(pb_grpc.BatonServicer):
    """The methods of the service."""

    def __init__(self, fake: FakeBaton, workers: "_Workers") -> None:
        self._fake = fake
        self._workers = workers
        self._stories: dict[str, str] = {}

    def Generate(self, request: pb.GenerateRequest, context: Any) -> Iterator[pb.GenerateResponse]:
        """Send the pieces of the script, or the prompt's own words."""
        request.request_id = request.request_id or new_id()
        script = self._fake.begin("Generate", context, request)
        self._stories[request.request_id] = f"0.000 s  arrived {request.request_id}\n"
        sent = threading.Event()
        context.add_callback(lambda: self._fake.ended(whole=sent.is_set()))
        resumed, pieces = len(request.resume_token_ids), self._fake.played(request, script, context)
        wanted = request.direct and self._fake.direct and request.sampling.n <= 1
        answer = self._workers.offers.offer(Answer(request, script)) if wanted else None
        if answer is not None:
            yield self._workers.route(answer)
            if not self._workers.offers.read(answer, context):
                # Here nobody knows more than that: the worker's call has the error, if any.
                abort(context, RequestCancelledError("the stream was left"))
        else:
            first = pb.GenerateResponse(request_id=request.request_id, model=MODEL)
            first.resumed_tokens = resumed
            for number, message in enumerate(pieces):
                message.MergeFrom(first if number == 0 else pb.GenerateResponse())
                yield message
        sent.set()
        if script.error is not None:
            abort(context, script.error)
        yield last(request, len(cut(request, script)[0]) - resumed)

    def Embed(self, request: pb.EmbedRequest, context: Any) -> pb.EmbedResponse:
        """A vector of the text's length."""
        self._fake.begin("Embed", context)
        if not self._fake.embeds:
            abort(context, UnsupportedError("The model generates text; it does not embed."))
        embeddings = [pb.Embedding(values=[float(len(text)), 1.0]) for text in request.texts]
        return pb.EmbedResponse(embeddings=embeddings)

    def CountTokens(self, request: pb.CountTokensRequest, context: Any) -> pb.CountTokensResponse:
        """Count words, or the ids that were given."""
        self._fake.begin("CountTokens", context)
        tokens = len(words(request.prompt))
        ids = range(tokens if request.return_token_ids else 0)
        length = MAX_MODEL_LEN_TOKENS
        return pb.CountTokensResponse(tokens=tokens, token_ids=ids, max_model_len_tokens=length)

    def ListModels(self, request: pb.ListModelsRequest, context: Any) -> pb.ListModelsResponse:
        """The one model there is."""
        self._fake.begin("ListModels", context)
        model = pb.Model(name=MODEL, can_generate=True, can_embed=self._fake.embeds)
        model.max_model_len_tokens = MAX_MODEL_LEN_TOKENS
        return pb.ListModelsResponse(models=[model])

    def GetStory(self, request: pb.GetStoryRequest, context: Any) -> pb.GetStoryResponse:
        """A line of each request there was."""
        self._fake.begin("GetStory", context)
        if (text := self._stories.get(request.request_id)) is None:
            abort(context, NotFoundError(f"no request {request.request_id!r}"))
        return pb.GetStoryResponse(text=text)


class _Workers(pb_grpc.DirectServicer):
    """The other service, of those who have the tokens."""

    def __init__(self, fake: FakeBaton) -> None:
        self._fake = fake
        self.offers = Offers()

    def route(self, answer: Answer) -> pb.GenerateResponse:
        """The message that leads to an answer."""
        route = pb.Route(address=self._fake.address, grant=answer.grant)
        name = answer.request.request_id
        return pb.GenerateResponse(request_id=name, model=MODEL, route=route)

    def Stream(self, request: pb.StreamRequest, context: Any) -> Iterator[pb.GenerateResponse]:
        """The pieces, once."""
        self._fake.taken()
        if (answer := self.offers.take(request.grant)) is None:
            abort(context, NotFoundError("no such stream"))
        context.add_callback(answer.over.set)
        yield from self._fake.played(answer.request, answer.script, context)
        if answer.script.error is not None:
            abort(context, answer.script.error)
        answer.whole = True
