"""One router's metrics for a scraper: as a page of its API, and on a port of its own.

Routers share the port of the API, so that a scrape there gets any of them. Each has another port
that is its alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from router.exposition import rendered


def answer(registry: CollectorRegistry, request: Request) -> Response:
    """The metrics in the format that the scraper asks for."""
    text, content_type = rendered(registry, request.headers.get("accept", ""))
    return Response(text, headers={"content-type": content_type})


def metrics_app(
    registry: CollectorRegistry,
    targets: Callable[[], Sequence[Mapping[str, Any]]] | None = None,
) -> Starlette:
    """An app that serves /metrics, /targets where these are given, and nothing else."""

    async def metrics(request: Request) -> Response:
        return answer(registry, request)

    async def listed(_request: Request) -> Response:
        return JSONResponse([] if targets is None else list(targets()))

    routes = [Route("/metrics", metrics)]
    return Starlette(routes=routes if targets is None else [*routes, Route("/targets", listed)])
