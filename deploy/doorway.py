"""The way in and out of one router: takes no new connections, and lets the last clients go.

A client that keeps its connection is told with its next answer to connect anew. Only a connection
on which nothing has come for a while is closed without a word.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from router.listen import HttpServer

_LOOK_EVERY_S = 0.1
_LINGER_S = 3.0
"""A client may be about to use a connection that has been quiet for less than this."""


class Farewell:
    """ASGI middleware: once `begun`, answers end their connection and say so."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.begun = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request. Until it has begun nothing is in the way of the tokens."""
        if self.begun and scope["type"] == "http":
            send = _last(send)
        await self._app(scope, receive, send)


def _last(send: Send) -> Send:
    async def tell(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message)["connection"] = "close"
        await send(message)

    return tell


class Doorway:
    """The connections of one running HTTP server. Belongs to its event loop."""

    def __init__(
        self,
        http: HttpServer,
        farewell: Farewell,
        now: Callable[[], float] = time.monotonic,
        pause: Callable[[float], Any] = asyncio.sleep,
    ) -> None:
        # Uvicorn knows one way to end, which closes idle connections at once.
        self._server = http.uvicorn
        self._farewell = farewell
        self._now = now
        self._pause = pause
        self._quiet_since: dict[int, float] = {}

    @property
    def clients(self) -> int:
        """How many clients are connected."""
        return len(self._server.server_state.connections)

    async def close(self) -> None:
        """Takes no new connections; returns when the last client has gone."""
        self._farewell.begun = True
        for listener in self._server.servers:
            listener.close()
        while self.clients:
            self._let_go()
            await self._pause(_LOOK_EVERY_S)

    def _let_go(self) -> None:
        """Closes what has been quiet for long enough."""
        now, before = self._now(), self._quiet_since
        quiet = [c for c in self._server.server_state.connections if _is_quiet(c)]
        self._quiet_since = {id(c): before.get(id(c), now) for c in quiet}
        for connection in quiet:
            if now - self._quiet_since[id(connection)] >= _LINGER_S:
                connection.shutdown()


def _is_quiet(connection: Any) -> bool:
    cycle = connection.cycle
    return cycle is None or bool(cycle.response_complete)
