"""grpc.health.v1 of a router: whether requests are served now.

Asked for at each question; whoever watches hears of a change a moment later. Clients that balance
over several routers watch each of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

from baton.errors import BatonError

_LOOK_EVERY_S = 0.25
_WATCHERS_MAX = 10_000
_SERVICE_CHARS_MAX = 256
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Health:
    """A `HealthServicer`. `ready` raises BatonError while requests cannot be served."""

    def __init__(self, ready: Callable[[], None], services: frozenset[str]) -> None:
        self._ready = ready
        self._services = services
        self._watchers = 0
        self._changed = asyncio.Event()
        self._closed = False

    def close(self) -> None:
        """The server ends: watchers hear that, and are let go."""
        self._closed = True
        self._changed.set()

    async def look(self) -> None:
        """Tells watchers of changes, until it is closed."""
        seen = self._status("")
        while not self._closed:
            await asyncio.sleep(_LOOK_EVERY_S)
            if (now := self._status("")) != seen:
                seen, changed = now, self._changed
                self._changed = asyncio.Event()
                changed.set()

    async def Check(
        self, request: health_pb2.HealthCheckRequest, context: Any
    ) -> health_pb2.HealthCheckResponse:
        await _refuse_long(request, context)
        if request.service not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND, "There is no such service.")
        return health_pb2.HealthCheckResponse(status=self._status(request.service))

    async def List(self, _request: Any, _context: Any) -> health_pb2.HealthListResponse:
        found = {
            name: health_pb2.HealthCheckResponse(status=self._status(name))
            for name in self._services
        }
        return health_pb2.HealthListResponse(statuses=found)

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Any) -> None:
        await _refuse_long(request, context)
        if self._watchers >= _WATCHERS_MAX:
            # Clients take that for healthy; after any other status they would not come at all.
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Too many watch already.")
        self._watchers += 1
        try:
            await self._watch(request.service, context)
        finally:
            self._watchers -= 1

    async def _watch(self, service: str, context: Any) -> None:
        told = None
        while True:
            closed, changed, status = self._closed, self._changed, self._status(service)
            if status != told:
                await context.write(health_pb2.HealthCheckResponse(status=status))
                told = status
            if closed:
                return
            await changed.wait()

    def _status(self, service: str) -> health_pb2.HealthCheckResponse.ServingStatus.ValueType:
        if service not in self._services:
            return _UNKNOWN
        if self._closed:
            return _NOT_SERVING
        try:
            self._ready()
        except BatonError:
            return _NOT_SERVING
        return _SERVING


async def _refuse_long(request: health_pb2.HealthCheckRequest, context: Any) -> None:
    # Whoever watches keeps the name, and nobody is asked for a key here.
    if len(request.service) > _SERVICE_CHARS_MAX:
        most = f"A service's name has at most {_SERVICE_CHARS_MAX} characters."
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, most)
