"""The headers that say who calls, and how long the caller waits.

Without API keys the names are taken on trust: whoever serves strangers gives out keys, or puts a
gateway before the router that sets the headers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from baton.errors import BatonError, Reason
from baton.settings.admission import DEFAULT_TENANT, TENANT_CHARS_MAX
from baton.spans import TRACEPARENT, context_of
from router.access import OPEN, Access, Holder, check_path, tell, unlocked
from router.caller import CALLER, STRANGER, Caller
from router.http_guard import error_response
from router.policy.tenants import DoorPass, Priority

TENANT_HEADER = "x-baton-tenant"
PRIORITY_HEADER = "x-baton-priority"
TIMEOUT_HEADER = "x-baton-timeout-s"
_GENERATING = frozenset({"/v1/completions", "/v1/chat/completions", "/v1/responses"})
"""Where errors have OpenAI's shape; others are refused once they have been read."""
_PRIORITIES = {priority.name.lower(): priority for priority in Priority}


Knock = Callable[[Caller], AbstractContextManager[DoorPass | None]]


class CallerHeaders:
    """ASGI middleware: remembers who calls, and refuses before anything of a request is read.

    Whoever shows no key that `access` knows comes no further than here. `knock` raises BatonError
    if a request of the caller would be refused now; what it gives is held until the request has
    ended. Out of the way of `send`, which runs per token.
    """

    def __init__(self, app: ASGIApp, knock: Knock, access: Access = OPEN) -> None:
        self._app = app
        self._access = access
        self._knock = knock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one connection or request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        if not scope["path"].isprintable():
            # A route's pattern lets one line break pass at its end; the comparisons here do not.
            error = BatonError(Reason.INVALID_REQUEST, "The path has control characters.")
            return await error_response(error)(scope, receive, send)
        if unlocked(scope["path"]):
            CALLER.set(STRANGER)
            return await self._app(scope, receive, send)
        with ExitStack() as stack:
            try:
                caller = caller_of(Headers(scope=scope), self._access)
                check_path(scope["path"], operator=caller.operator)
                if scope["path"] in _GENERATING and scope["method"] == "POST":
                    door_pass = stack.enter_context(self._knock(caller))
                    caller = caller._replace(door_pass=door_pass)
            except BatonError as error:
                client = (scope.get("client") or ("?",))[0]
                tell("request refused", error, client=client, path=scope["path"][:80])
                return await error_response(error)(scope, receive, send)
            CALLER.set(caller)
            return await self._app(scope, receive, send)


def caller_of(headers: Headers, access: Access = OPEN) -> Caller:
    """What the headers say. Raises BatonError for what cannot be read, or may not be.

    Those are UNAUTHENTICATED without a key that `access` knows, and PERMISSION_DENIED for the name
    of a tenant that the key is not of.
    """
    holder = access.holder(headers)
    return Caller(
        _tenant(headers.get(TENANT_HEADER), holder),
        _priority(headers.get(PRIORITY_HEADER)),
        _timeout_s(headers.get(TIMEOUT_HEADER)),
        trace=context_of(headers.get(TRACEPARENT, "")),
        operator=holder.operator,
        own_cache=access.separates,
    )


def _tenant(named: str | None, holder: Holder) -> str:
    if not named:
        return holder.tenant or DEFAULT_TENANT
    if len(named) > TENANT_CHARS_MAX:
        raise _unreadable(TENANT_HEADER, named, f"{TENANT_CHARS_MAX} characters")
    if not holder.operator and named != holder.tenant:
        message = f"This key is not of the tenant that {TENANT_HEADER} names."
        raise BatonError(Reason.PERMISSION_DENIED, message, param=TENANT_HEADER)
    return named


def _priority(text: str | None) -> Priority:
    if text is None:
        return Priority.HIGH
    if (priority := _PRIORITIES.get(text.lower())) is None:
        raise _unreadable(PRIORITY_HEADER, text, "low, normal or high")
    return priority


def _timeout_s(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise _unreadable(TIMEOUT_HEADER, text, "seconds above 0")
    return seconds


def _unreadable(header: str, text: str, allowed: str) -> BatonError:
    message = f"{header}: given {text[:40]!r}; allowed: {allowed}"
    return BatonError(Reason.INVALID_REQUEST, message, param=header)
