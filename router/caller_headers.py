"""The headers that say who calls.

The names are taken on trust: whoever serves strangers puts a gateway before the router that sets
them.
"""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from baton.settings.admission import DEFAULT_TENANT
from router.caller import CALLER, Caller
from router.policy.tenants import Priority

TENANT_HEADER = "x-baton-tenant"
PRIORITY_HEADER = "x-baton-priority"
_PRIORITIES = {priority.name.lower(): priority for priority in Priority}


class CallerHeaders:
    """ASGI middleware: remembers who calls. Out of the way of `send`, which runs per token."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one connection or request."""
        if scope["type"] == "http":
            CALLER.set(caller_of(Headers(scope=scope)))
        await self._app(scope, receive, send)


def caller_of(headers: Headers) -> Caller:
    """What the headers say; what cannot be read is as if it were not there."""
    tenant = headers.get(TENANT_HEADER, DEFAULT_TENANT)
    named = headers.get(PRIORITY_HEADER, "").lower()
    return Caller(tenant, _PRIORITIES.get(named, Priority.HIGH))
