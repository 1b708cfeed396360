"""The routes of the live page in vLLM's app: who is let in, what is served, and the switch."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from prometheus_client import CollectorRegistry

from baton.clock import ManualClock
from baton.settings.model import Settings
from baton.signals import PoolSignals, RouterSignals
from router.http import Pages, build_front, build_http_app, front_args
from router.ui.board import Board, Sources
from tests.wire.fakes import FakeHeart
from tests.wire.http.support import DEMO

pytestmark = [pytest.mark.wire, pytest.mark.asyncio(loop_scope="session")]

FILES = ["page.html", "style.css", "icon.svg", "app.js", "chart.js", "dom.js", "panels.js"]


@asynccontextmanager
async def served(*, ui: bool = True, key: str = "") -> AsyncIterator[httpx.AsyncClient]:
    settings = Settings.model_validate({"model": {"served_name": "demo"}, "router": {"ui": ui}})
    args, registry = front_args(settings, DEMO), CollectorRegistry(auto_describe=True)
    args.api_key = [key] if key else []
    front = build_front(args, FakeHeart())
    sources = Sources(
        registry,
        dict,
        lambda: RouterSignals(PoolSignals(), PoolSignals()),
        lambda _: [],
        lambda _: None,
        lambda _: [],
        lambda _: None,
        lambda _: None,
    )
    board = Board(sources, settings.slo, "demo", ManualClock(1.0))
    knock = FakeHeart().knock
    pages = Pages(lambda: None, knock, dict, lambda *_: None, lambda *_: [], registry, board)
    app = await build_http_app(front, args, settings, pages)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client
    front.shutdown()


async def test_the_page_is_for_everybody_and_what_it_shows_for_those_with_the_key() -> None:
    async with served(key="secret") as client:
        page = await client.get("/ui")
        assert page.headers["content-type"].startswith("text/html")
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        for name in FILES:
            assert (await client.get(f"/ui/{name}")).status_code == 200
        for path in ("/ui/data", "/ui/request/x", "/ui/request/"):
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "secret"}):
                refused = await client.get(path, headers=headers)
                assert refused.status_code == 401
                assert refused.json()["error"]["code"] == "unauthenticated"
        right = {"Authorization": "Bearer secret"}
        shown = await client.get("/ui/data", headers=right)
        assert shown.json()["model"] == "demo"
        assert shown.headers["cache-control"] == "no-store"
        assert (await client.get("/ui/request/x", headers=right)).status_code == 404


async def test_nothing_else_is_served_from_its_folder() -> None:
    async with served() as client:
        assert (await client.get("/ui/data")).status_code == 200
        for name in ("board.py", "__init__.py", "..%2Fhttp.py", "nothing.js"):
            assert (await client.get(f"/ui/{name}")).status_code == 404
        assert (await client.post("/ui/data")).status_code == 405


async def test_it_can_be_turned_off() -> None:
    async with served(ui=False) as client:
        for path in ("/ui", "/ui/data", "/ui/app.js", "/ui/request/x"):
            assert (await client.get(path)).status_code == 404
