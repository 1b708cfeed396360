"""Baton's own pages where the port of the API is a front-end process's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp, Receive, Scope, Send

from baton.errors import BatonError, Reason
from router.http_guard import error_response
from router.scrape import metrics_app

_PAGES = ("/health", "/ready", "/status", "/requests", "/story", "/explain", "/ui")
_FIGURES = ("/metrics", "/targets")


def own_pages(
    app: ASGIApp | None,
    registry: CollectorRegistry,
    targets: Callable[[], Sequence[Mapping[str, Any]]] = tuple,
) -> ASGIApp:
    """What a router serves at its own address: figures without a key, for those who scrape.

    `app` has the other pages, and guards them; None where the port of the API has all.
    """
    return metrics_app(registry) if app is None else OwnPages(app, metrics_app(registry, targets))


class OwnPages:
    """ASGI middleware: of an app, what an operator reads, and nothing that generates.

    `figures` serves what everybody may read who reaches it.
    """

    def __init__(self, app: ASGIApp, figures: ASGIApp) -> None:
        self._app = app
        self._figures = figures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one connection or request."""
        if scope["type"] == "http" and scope["path"] in _FIGURES:
            return await self._figures(scope, receive, send)
        if scope["type"] == "http" and not _is_page(scope["path"]):
            error = BatonError(Reason.ROUTE_BLOCKED, "The API is served at the cluster's port.")
            return await error_response(error)(scope, receive, send)
        return await self._app(scope, receive, send)


def _is_page(path: str) -> bool:
    return any(path == page or path.startswith(f"{page}/") for page in _PAGES)
