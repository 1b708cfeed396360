"""Baton's own pages where the port of the API is a front-end process's."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from baton.errors import BatonError, Reason
from router.http_guard import error_response

_PAGES = ("/health", "/ready", "/metrics", "/targets", "/status", "/story", "/explain", "/ui")


class OwnPages:
    """ASGI middleware: of an app, what an operator reads, and nothing that generates."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one connection or request."""
        if scope["type"] == "http" and not _is_page(scope["path"]):
            error = BatonError(Reason.ROUTE_BLOCKED, "The API is served at the cluster's port.")
            return await error_response(error)(scope, receive, send)
        return await self._app(scope, receive, send)


def _is_page(path: str) -> bool:
    return any(path == page or path.startswith(f"{page}/") for page in _PAGES)
