"""Direct streams whose two calls end at odds: the router says one thing, the worker another."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from baton_client import AsyncClient, Client, ServerError, Usage
from baton_client.answers import Completion
from baton_client.v1 import service_pb2 as pb


class _Router(grpc.GenericRpcHandler):
    """Leads to a worker that says nothing, and ends its own call with an error."""

    def __init__(self, worker: str) -> None:
        self._worker = worker

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        if details.method.endswith("/Generate"):
            return grpc.unary_stream_rpc_method_handler(
                self._generate, pb.GenerateRequest.FromString, pb.GenerateResponse.SerializeToString
            )
        return grpc.unary_stream_rpc_method_handler(self._stream, pb.StreamRequest.FromString)

    def _generate(self, request: pb.GenerateRequest, context: Any) -> Iterator[Any]:
        route = pb.Route(address=self._worker, grant=b"grant")
        yield pb.GenerateResponse(request_id=request.request_id, route=route)
        threading.Event().wait(0.2)
        context.abort(grpc.StatusCode.INTERNAL, "the engine broke")

    def _stream(self, _request: pb.StreamRequest, context: Any) -> Iterator[bytes]:
        over = threading.Event()
        context.add_callback(over.set)
        over.wait(10)
        yield from ()


class _Finished(_Router):
    """Leads to a worker that sends the last piece; then its call, or the router's, breaks."""

    calls = 0

    def __init__(self, worker: str, breaks: str) -> None:
        super().__init__(worker)
        self._breaks = breaks
        self._told = threading.Event()

    def _generate(self, request: pb.GenerateRequest, context: Any) -> Iterator[Any]:
        self.calls += 1
        route = pb.Route(address=self._worker, grant=b"grant")
        yield pb.GenerateResponse(request_id=request.request_id, route=route)
        assert self._told.wait(5)
        # The piece has to be there first: what breaks sooner than it is an answer to be resumed.
        threading.Event().wait(0.3)
        if self._breaks != "worker":
            context.abort(grpc.StatusCode.UNAVAILABLE, "the router stops")
        yield pb.GenerateResponse(usage=pb.Usage(prompt_tokens=5, completion_tokens=2))

    def _stream(self, _request: pb.StreamRequest, context: Any) -> Iterator[bytes]:
        yield pb.GenerateResponse(
            deltas=[
                pb.Delta(text="ab", tokens=2, token_ids=[1, 2], finish_reason=pb.FINISH_REASON_STOP)
            ]
        ).SerializeToString()
        if self._breaks == "worker":
            self._told.set()
            context.abort(grpc.StatusCode.UNAVAILABLE, "the worker is gone")
        self._told.set()
        if self._breaks == "both":
            threading.Event().wait(1)


def served(kind: str, make: Callable[[str], _Router]) -> tuple[_Router, Callable[[], Completion]]:
    """A server at an address that it knows, and what asks it once and stops it."""
    server = grpc.server(ThreadPoolExecutor(8))
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.add_generic_rpc_handlers((router := make(address),))
    server.start()
    options: dict[str, Any] = {"direct": True, "timeout_s": 8}

    def blocking() -> Completion:
        with Client(address, **options) as client:
            return client.generate("x")

    async def awaiting() -> Completion:
        async with AsyncClient(address, **options) as client:
            return await client.generate("x")

    def ask() -> Completion:
        try:
            return blocking() if kind == "blocking" else asyncio.run(awaiting())
        finally:
            server.stop(None)

    return router, ask


@pytest.mark.parametrize("kind", ["blocking", "awaiting"])
def test_the_routers_word_ends_a_silent_stream(kind: str) -> None:
    _, ask = served(kind, _Router)
    with pytest.raises(ServerError, match="the engine broke"):
        ask()


@pytest.mark.parametrize("kind", ["blocking", "awaiting"])
@pytest.mark.parametrize("breaks", ["router", "worker", "both"])
def test_an_answer_with_its_last_piece_is_whole(kind: str, breaks: str) -> None:
    router, ask = served(kind, lambda address: _Finished(address, breaks))
    answer = ask()
    assert (answer.text, answer.finish_reason, answer.timing) == ("ab", "stop", None)
    assert answer.usage == Usage(5 if breaks == "worker" else 0, 0, 2)
    assert (router.calls, answer.attempts) == (1, 1)
