"""Where a worker serves clients: the answers that they read past the router, and nothing else.

A listener of its own, with the certificate that clients know; the cluster's own service stays
behind the cluster's. Whoever comes shows the grant that a router gave out for one answer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import grpc
from baton_client.v1 import service_pb2 as pb

from baton.errors import BatonError, Reason, StartupError, StartupFault
from baton.tasks import Tasks
from baton.wire.credentials import listen
from engine.direct import DirectStream, DirectStreams
from router.caller import Caller
from router.rpc_answers import Answer
from router.rpc_calls import Bounds, Call, Calls, Method

NAME: str = pb.DESCRIPTOR.services_by_name["Direct"].full_name
STALL_S = 60.0
"""A client that takes nothing for this long reads too slowly."""
_MESSAGE_BYTES_MAX = 1024
_METADATA_BYTES_MAX = 16 * 1024
_CALLS_MAX = 4096
_CALLS_OF_CONNECTION_MAX = 1024
READ_WITHIN_S = 2.0
"""Whoever shows no grant within this gives its place to others."""
_KEEPALIVE_MS = 30_000
_OPTIONS = [
    ("grpc.max_receive_message_length", 2 * _MESSAGE_BYTES_MAX),
    ("grpc.max_metadata_size", _METADATA_BYTES_MAX),
    ("grpc.absolute_max_metadata_size", _METADATA_BYTES_MAX),
    ("grpc.max_concurrent_streams", _CALLS_OF_CONNECTION_MAX),
    ("grpc.compression_enabled_algorithms_bitset", 1),
    # Whoever has vanished without a word is found out, and the engine is freed.
    ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
    ("grpc.http2.ping_timeout_ms", _KEEPALIVE_MS // 2),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    # Two workers must not share a port by accident.
    ("grpc.so_reuseport", 0),
]


class DirectServer:
    """Serves the streams of one worker. Belongs to the worker's event loop."""

    def __init__(
        self, streams: DirectStreams, credentials: grpc.ServerCredentials | None = None
    ) -> None:
        self._streams = streams
        self._credentials = credentials
        self._tasks = Tasks("direct streams")
        bounds = Bounds(_MESSAGE_BYTES_MAX, _CALLS_MAX, read_within_s=READ_WITHIN_S)
        self._calls = Calls(_nobody, bounds)
        self._server = grpc.aio.server(options=_OPTIONS)
        methods = {"Stream": self._calls.handler(Method(pb.StreamRequest, self._stream))}
        handler = grpc.method_handlers_generic_handler(NAME, methods)
        self._server.add_generic_rpc_handlers((handler,))

    async def start(self, host: str, port: int = 0) -> int:
        """Listens; the port. Raises StartupError PORT_TAKEN."""
        try:
            bound = listen(self._server, host, port, self._credentials)
        except RuntimeError as error:
            hint = "Set router.direct_port to 0, or run one worker at each address."
            raise StartupError(
                StartupFault.PORT_TAKEN, f"{host}:{port} is taken", hint=hint
            ) from error
        await self._server.start()
        return bound

    async def stop(self, grace_s: float) -> None:
        """Ends what is read after `grace_s` seconds."""
        await self._server.stop(grace_s)
        await self._tasks.aclose()

    async def _stream(self, call: Call[pb.StreamRequest]) -> None:
        stream = self._streams.take(call.request.grant)
        with self._leaving(stream):
            async with asyncio.timeout(self._streams.left_s(stream)):
                await _pass_on(stream, call)

    @contextlib.contextmanager
    def _leaving(self, stream: DirectStream) -> Iterator[None]:
        late = False
        try:
            yield
        except TimeoutError as error:
            late = True
            why = "The answer was not read in time."
            raise BatonError(Reason.DEADLINE_EXCEEDED, why) from error
        finally:
            # Also where this call is being cancelled, which would cancel a wait here.
            self._tasks.spawn(self._streams.left(stream, late=late), f"leave {stream.leg_id}")


def _nobody(_caller: Caller) -> AbstractContextManager[None]:
    # A grant is all that is asked for.
    return contextlib.nullcontext()


async def _pass_on(stream: DirectStream, call: Call[Any]) -> None:
    text = stream.text
    answer = Answer("", "", ids=True, logprobs=text.logprobs)
    finished = False
    while not finished:
        output = await text.next()
        finished = output.finished
        try:
            async with asyncio.timeout(STALL_S):
                await call.write(answer.message(output).SerializeToString())
        except TimeoutError as error:
            # No deadline has passed: the client may go on through a router.
            why = f"The answer was not read for {STALL_S:.0f} s."
            raise BatonError(Reason.WORKER_LOST, why) from error
