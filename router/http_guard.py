"""What is refused before vLLM's server sees it, and how a refusal looks over HTTP.

Knows requests by the names of their fields only: no vLLM here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from baton.errors import BatonError, Reason

REASON_HEADER = "x-baton-reason"
# Where a handler leaves the error whose headers an answer of vLLM's own making still needs.
ERROR_STATE = "baton_error"
_TRANSFER_FIELDS = ("kv_transfer_params", "ec_transfer_params")
_STORED_FIELDS = ("previous_response_id", "background")
ITEMS_MAX = {"messages": 8192, "input": 8192, "tools": 1024}
"""Each costs work before its tokens are counted. vLLM bounds prompts, and what is below them."""
_MEDIA = ("image", "audio", "video", "file", "document")
_DRAIN_FACTOR = 8


def error_headers(error: BatonError) -> dict[str, str]:
    """The headers of a typed answer: its reason and, where known, when to ask again."""
    headers = {REASON_HEADER: error.reason.value}
    if error.reason is Reason.UNAUTHENTICATED:
        headers["www-authenticate"] = "Bearer"
    if error.retry_after_s is not None:
        headers["retry-after"] = str(math.ceil(error.retry_after_s))
    return headers


def error_response(error: BatonError) -> JSONResponse:
    """The HTTP answer to an error, in OpenAI's shape."""
    return JSONResponse(error.to_openai(), error.rule.http_status, error_headers(error))


def refuse_fields(request: object) -> None:
    """Raises BatonError for a parsed request that asks for what is not served.

    `request` is any of vLLM's request models; fields that it does not have are not checked.
    """
    refuse_transfer_fields(_fields(request, _TRANSFER_FIELDS))
    more = getattr(request, "vllm_xargs", None)
    # Not every model of a request knows the field, and what it does not know is not checked there.
    refuse_transfer_fields(more if isinstance(more, Mapping) else {})
    for field, value in _fields(request, _STORED_FIELDS).items():
        if value:
            raise BatonError(
                Reason.UNSUPPORTED,
                f"Responses are not stored: send the whole conversation instead of {field}.",
                param=field,
            )
    for field, value in _fields(request, tuple(ITEMS_MAX)).items():
        _refuse_many(field, value)
    _refuse_media(request)


def refuse_transfer_fields(fields: Mapping[str, Any]) -> None:
    """Raises BatonError if a client names KV to be handed over, which may be somebody else's."""
    for field in _TRANSFER_FIELDS:
        if fields.get(field) is not None:
            raise BatonError(
                Reason.UNSUPPORTED, f"{field} is set by Baton and by nobody else.", param=field
            )


def _fields(request: object, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(request, name, None) for name in names}


def _refuse_many(field: str, value: object) -> None:
    items = _listed(value)
    if len(items) > ITEMS_MAX[field]:
        message = f"{field} has {len(items)} items; allowed: {ITEMS_MAX[field]}"
        raise BatonError(Reason.INVALID_REQUEST, message, param=field)


def _refuse_media(request: object) -> None:
    # Before rendering, which would fetch what the parts point at.
    for field in ("messages", "input"):
        items = list(_listed(getattr(request, field, None)))
        while items:
            item = items.pop()
            kind = str(_get(item, "type") or "")
            if kind.removeprefix("input_").startswith(_MEDIA):
                raise BatonError(
                    Reason.UNSUPPORTED, f"Only text is supported, not {kind}.", param=field
                )
            # Results of tools carry parts of their own.
            items += (*_listed(_get(item, "content")), *_listed(_get(item, "output")))


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _get(item: object, name: str) -> Any:
    return item.get(name) if isinstance(item, Mapping) else getattr(item, name, None)


class HttpGuard:
    """ASGI middleware: bounds request bodies, and completes the headers of Anthropic errors.

    Plain ASGI and out of the way once the body is in, because whatever wraps `send` is paid for
    with every token.
    """

    def __init__(self, app: ASGIApp, max_body_bytes: int) -> None:
        self._app = app
        self._limit = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one connection or request."""
        if scope["type"] != "http" or scope["method"] not in {"POST", "PUT", "PATCH"}:
            return await self._app(scope, receive, send)
        if scope["path"].startswith("/v1/messages"):
            send = _with_error_headers(scope, send)
        declared = Headers(scope=scope).get("content-length", "")
        if not declared.isdecimal():
            return await self._unsized(scope, receive, send)
        if int(declared) <= self._limit:
            return await self._app(scope, receive, send)
        await self._drain(receive)
        return await self._refuse(scope, receive, send)

    async def _unsized(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self._limit:
                if more:
                    await self._drain(receive)
                return await self._refuse(scope, receive, send)
            if not more:
                return await self._app(scope, _replayed(bytes(body), receive), send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = BatonError(
            Reason.BODY_TOO_LARGE, f"The request body is larger than {self._limit} bytes."
        )
        response = error_response(error)
        response.headers["connection"] = "close"
        await response(scope, receive, send)

    async def _drain(self, receive: Receive) -> None:
        """Reads on for a while: many clients look for an answer only when they have sent all."""
        left = self._limit * _DRAIN_FACTOR
        while left > 0:
            message = await receive()
            if message["type"] == "http.disconnect" or not message.get("more_body", False):
                return
            left -= len(message.get("body", b""))


def _replayed(body: bytes, receive: Receive) -> Receive:
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return pending.pop() if pending else await receive()

    return replay


def _with_error_headers(scope: Scope, send: Send) -> Send:
    async def complete(message: Message) -> None:
        error = scope.get("state", {}).get(ERROR_STATE)
        if error is not None and message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(error_headers(error))
        await send(message)

    return complete
