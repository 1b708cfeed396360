"""One HTTP request and its answer: when it came, and when what is due was written.

The first token of a stream is due when its frame has come, and written when the server has taken
its first bytes. Only that token and the last one are waited for: in between, an answer passes
through one plain call per chunk.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from router.split import Split

SPLIT_HEADER = "x-baton-split"
ARRIVED_KEY = "baton.arrived_at"
"""Where the scope says when the request's first bytes were read, seconds of `time.monotonic`."""
_EVENTS = "text/event-stream"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a client reads an answer itself, HOST:PORT, and what it shows there."""

    address: str
    grant: bytes = field(repr=False)


Settle = Callable[[float | None], None]
"""Hears when what it waits for was written; None where nothing is streamed."""


class Exchange:
    """Belongs to one event loop. Times in seconds of the router's clock."""

    def __init__(self, arrived_at: float) -> None:
        self.arrived_at = arrived_at
        self.split: Split | None = None
        """That of the first token, once it is written; the first one's where there are several."""
        self.streams = False
        self.answering = False
        """Whether something has come of it: what is asked after that is a request of its own."""
        self.direct = False
        """Whether the client can read the answer from the decode worker."""
        self.source: Source | None = None
        """That worker, from the first token on."""
        self.sent: tuple[int, ...] = ()
        """Tokens of the answer that the client has from before."""
        self._due: list[Settle] = []

    def when_written(self, settle: Settle) -> None:
        """Something is on its way out: tell `settle` when it has been written.

        With several answers in one exchange it may be another one's chunk that comes next.
        """
        self.answering = True
        self._due.append(settle)

    def written(self, at: float | None) -> None:
        """What was due is written."""
        due, self._due[:] = tuple(self._due), ()
        for settle in due:
            settle(at)

    def sending(self, send: Send, *, tell: bool) -> Send:
        """How the answer is sent; `tell`: with the split, for those who ask."""
        due = self._due
        begun = False

        async def first(message: Message) -> None:
            self._begins(message, tell=tell)
            await send(message)

        async def timed(message: Message) -> None:
            await send(message)
            # The event loop writes at the end of its turn, and others may have theirs before.
            await asyncio.sleep(0)
            told = self.split
            self.written(time.monotonic())
            if tell and told is None and self.split is not None and message.get("more_body"):
                comment = f": {SPLIT_HEADER} {self.split.header()}\n\n".encode()
                await send({"type": "http.response.body", "body": comment, "more_body": True})

        def sent(message: Message) -> object:
            nonlocal begun
            if due and begun:
                return timed(message)
            if begun:
                return send(message)
            begun = True
            return first(message)

        return sent  # type: ignore[return-value]

    def _begins(self, message: Message, *, tell: bool) -> None:
        headers = MutableHeaders(scope=message)
        self.streams = headers.get("content-type", "").startswith(_EVENTS)
        if self.streams:
            return
        self.written(None)
        if tell and self.split is not None:
            headers[SPLIT_HEADER] = self.split.header()


EXCHANGE: ContextVar[Exchange | None] = ContextVar("baton_exchange", default=None)
"""Carries it through vLLM's server to where the request is taken."""


class Exchanges:
    """ASGI middleware: makes one for each request that may ask for tokens."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one connection or request."""
        if scope["type"] == "http" and scope["method"] == "POST":
            exchange = Exchange(scope.get(ARRIVED_KEY) or time.monotonic())
            EXCHANGE.set(exchange)
            send = exchange.sending(send, tell=SPLIT_HEADER in Headers(scope=scope))
        await self._app(scope, receive, send)
