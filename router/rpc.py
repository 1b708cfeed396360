"""The public gRPC server of a router, on the router's own event loop."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import grpc
from baton_client.v1 import service_pb2 as pb
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from baton.errors import StartupError, StartupFault
from baton.settings.router import RouterSettings
from baton.tasks import Tasks
from baton.wire.credentials import listen
from router.access import OPEN, Access
from router.http import Pages
from router.rpc_calls import Bounds, Calls
from router.rpc_health import Health
from router.rpc_requests import Requests
from router.rpc_service import Service

NAME: str = pb.DESCRIPTOR.services_by_name["Baton"].full_name
_MIB = 1024 * 1024
_METADATA_BYTES_MAX = 16 * 1024
_SPARE_CALLS = 256
"""Beside the requests: questions, and calls that are about to be refused."""
_KEEPALIVE_MS = 30_000
_CUT_WITHIN_S = 1.0


class RpcServer:
    """A running gRPC server; `serve` makes it."""

    def __init__(self, server: grpc.aio.Server, port: int, calls: Calls, health: Health) -> None:
        self._server = server
        self._calls = calls
        self._health = health
        self._tasks = Tasks("rpc")
        self._tasks.spawn(health.look(), "health")
        self._stopping: asyncio.Task[None] | None = None
        self.port = port

    @property
    def running(self) -> int:
        """Calls under way."""
        return self._calls.running

    async def stop(self, grace_s: float) -> None:
        """Takes no new calls, gives those under way `grace_s` seconds, then ends them.

        May be called again, to give them less.
        """
        self._health.close()
        if self._stopping is None:
            stopping = self._server.stop(grace_s + _CUT_WITHIN_S)
            self._stopping = self._tasks.spawn(stopping, "stop")
        _, late = await asyncio.wait({self._stopping}, timeout=grace_s)
        if late:
            self._calls.cut()
            await asyncio.wait(late, timeout=2 * _CUT_WITHIN_S)


@dataclass(frozen=True, slots=True)
class Place:
    """Where to listen. Routers of one machine share a port."""

    host: str
    port: int
    credentials: grpc.ServerCredentials | None = None
    """None = without encryption."""


async def serve(
    requests: Requests,
    pages: Pages,
    settings: RouterSettings,
    place: Place,
    access: Access = OPEN,
) -> RpcServer:
    """Serves in the running event loop; returns when calls are accepted.

    Raises StartupError PORT_TAKEN.
    """
    bounds = _bounds(settings)
    calls = Calls(pages.knock, bounds, access)
    service = Service(requests, pages.story, direct=settings.direct)
    health = Health(pages.ready, frozenset({"", NAME}))
    server = grpc.aio.server(options=_options(bounds))
    methods = {name: calls.handler(method) for name, method in service.methods().items()}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(NAME, methods),))
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    if not access.guarded:
        # It asks nobody for a key, and what strangers can ask of it is not bounded.
        shown = (NAME, "grpc.health.v1.Health", reflection.SERVICE_NAME)
        reflection.enable_server_reflection(shown, server)
    port = _listen(server, place)
    await server.start()
    return RpcServer(server, port, calls, health)


def _listen(server: grpc.aio.Server, place: Place) -> int:
    try:
        return listen(server, place.host, place.port, place.credentials)
    except RuntimeError as error:
        raise StartupError(
            StartupFault.PORT_TAKEN,
            f"gRPC cannot listen on {place.host}:{place.port}.",
            hint="Set router.grpc_port to a free port, or router.grpc to false.",
        ) from error


def _bounds(settings: RouterSettings) -> Bounds:
    return Bounds(
        message_bytes=round(settings.max_body_mib * _MIB),
        calls=settings.max_inflight_requests + _SPARE_CALLS,
        retry_after_s=settings.retry_after_s,
    )


def _options(bounds: Bounds) -> list[tuple[str, Any]]:
    return [
        # Above the bound, so that what is a little too large has a typed answer.
        ("grpc.max_receive_message_length", 2 * bounds.message_bytes),
        ("grpc.max_metadata_size", _METADATA_BYTES_MAX),
        ("grpc.absolute_max_metadata_size", _METADATA_BYTES_MAX),
        ("grpc.max_concurrent_streams", bounds.calls),
        # A small message could unfold to one of any size.
        ("grpc.compression_enabled_algorithms_bitset", 1),
        # Whoever has vanished without a word is found out, and the engines are freed.
        ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
        # gRPC waits for the answer to a ping by this, whatever keepalive_timeout_ms says.
        ("grpc.http2.ping_timeout_ms", _KEEPALIVE_MS // 2),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
        ("grpc.so_reuseport", 1),
    ]
