"""grpc.health.v1 of a router: whether requests are served now.

Asked each time, and not told of changes: what is known is never older than the question.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

from baton.errors import BatonError

_LOOK_EVERY_S = 0.25
_WATCHERS_MAX = 256
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Health:
    """A `HealthServicer`. `ready` raises BatonError while requests cannot be served."""

    def __init__(self, ready: Callable[[], None], services: frozenset[str]) -> None:
        self._ready = ready
        self._services = services
        self._watchers = 0
        self.closed = False
        """Set when the server ends: watchers hear that, and are let go."""

    async def Check(
        self, request: health_pb2.HealthCheckRequest, context: Any
    ) -> health_pb2.HealthCheckResponse:
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
        if self._watchers >= _WATCHERS_MAX:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "Too many watch already.")
        self._watchers += 1
        try:
            await self._watch(request.service, context)
        finally:
            self._watchers -= 1

    async def _watch(self, service: str, context: Any) -> None:
        told, closed = None, False
        while not closed:
            closed, status = self.closed, self._status(service)
            if status != told:
                await context.write(health_pb2.HealthCheckResponse(status=status))
                told = status
            await asyncio.sleep(0.0 if closed else _LOOK_EVERY_S)

    def _status(self, service: str) -> health_pb2.HealthCheckResponse.ServingStatus.ValueType:
        if service not in self._services:
            return _UNKNOWN
        if self.closed:
            return _NOT_SERVING
        try:
            self._ready()
        except BatonError:
            return _NOT_SERVING
        return _SERVING
