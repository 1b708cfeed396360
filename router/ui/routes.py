"""The routes of the page. What it shows is an operator's, and asked for with a key."""

from __future__ import annotations

from importlib import resources

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from router.ui.board import Board

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_SAFE = {
    # Nothing but the page's own files, and nobody may frame it.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}
_SECRET = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


def ui_routes(board: Board) -> list[Route]:
    """The routes at `/ui`; who may have which is `router.access`'s to say."""
    files = _files()

    async def page(_request: Request) -> Response:
        return _file(files, "page.html")

    async def file(request: Request) -> Response:
        return _file(files, request.path_params["name"])

    async def data(_request: Request) -> Response:
        return Response(board.data(), media_type="application/json", headers=_SECRET)

    async def story(request: Request) -> Response:
        found = board.request(request.path_params["request_id"])
        if found is None:
            raise HTTPException(404, "No such request, or it is too long ago.")
        return JSONResponse(found, headers=_SECRET)

    return [
        Route("/ui", page),
        Route("/ui/data", data),
        Route("/ui/request/{request_id:path}", story),
        Route("/ui/{name}", file),
    ]


def _files() -> dict[str, bytes]:
    """The page's own files, small enough to be kept."""
    found = resources.files("router.ui").iterdir()
    return {f.name: f.read_bytes() for f in found if f.name.rpartition(".")[2] in _TYPES}


def _file(files: dict[str, bytes], name: str) -> Response:
    if name not in files:
        raise HTTPException(404, "Not Found")
    return Response(files[name], media_type=_TYPES[name.rpartition(".")[2]], headers=_SAFE)
