"""The header that tells a client where its request went, for those who ask for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from router.caller import CALLER

ASK_HEADER = "x-baton-explain"
ROUTE_HEADER = "x-baton-route"
ID_HEADER = "x-request-id"
_LATER = "not decided yet"

Explain = Callable[[str, str | None], Sequence[dict[str, Any]]]
"""By a part of a request's id, and the only tenant who may be told of; None = all of them."""


class ExplainHeader:
    """ASGI middleware; costs nothing where the header is not asked for.

    The headers of a stream leave with its first byte. If the request still waits for a worker then,
    the header says so; its id is in the answer, for `/explain/ID`.
    """

    def __init__(self, app: ASGIApp, explain: Explain) -> None:
        self._app = app
        self._explain = explain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one connection or request."""
        if scope["type"] == "http" and ASK_HEADER in Headers(scope=scope):
            send = self._with_route(_named(scope), send)
        await self._app(scope, receive, send)

    def _with_route(self, request_id: str, send: Send) -> Send:
        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                found = self._explain(request_id, CALLER.get().sees)
                headers = MutableHeaders(scope=message)
                headers[ROUTE_HEADER] = str(found[-1]["line"]) if found else _LATER
                headers[ID_HEADER] = request_id
            await send(message)

        return answer


def _named(scope: Scope) -> str:
    """The id that vLLM's server will give the request, one of ours if the client has none."""
    headers = MutableHeaders(scope=scope)
    if ID_HEADER not in headers:
        headers[ID_HEADER] = uuid4().hex
    return headers[ID_HEADER]
