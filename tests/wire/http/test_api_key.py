"""The check of vLLM's API key stays when its other middleware goes."""

from __future__ import annotations

import httpx
import pytest
from prometheus_client import CollectorRegistry

from baton.settings.model import Settings
from router.http import Pages, build_front, build_http_app, front_args
from tests.wire.fakes import FakeHeart
from tests.wire.http.support import DEMO

pytestmark = pytest.mark.wire


@pytest.mark.asyncio(loop_scope="session")
async def test_a_key_guards_v1_and_nothing_else() -> None:
    settings = Settings.model_validate({"model": {"served_name": "demo"}})
    args = front_args(settings, DEMO)
    args.api_key = ["secret"]
    front = build_front(args, FakeHeart())
    pages = Pages(
        lambda: None, FakeHeart().knock, dict, lambda _: None, lambda _: [], CollectorRegistry()
    )
    app = await build_http_app(front, args, settings, pages)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        assert (await client.get("/v1/models")).status_code == 401
        wrong = {"Authorization": "Bearer wrong"}
        assert (await client.get("/v1/models", headers=wrong)).status_code == 401
        right = {"Authorization": "Bearer secret"}
        assert (await client.get("/v1/models", headers=right)).status_code == 200
        assert (await client.get("/health")).status_code == 200
    front.shutdown()
