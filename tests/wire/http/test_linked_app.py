"""vLLM's app of a front-end process: who comes in. It runs in this process here."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from baton.settings.model import Settings
from router.http import build_front, build_linked_app, front_args
from tests.wire.fakes import FakeHeart
from tests.wire.http.support import DEMO
from tests.wire.linked import SETTINGS

ORIGIN = "https://page.example"
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client() -> AsyncIterator[httpx.AsyncClient]:
    asked = {"front": "python-processes", "allow_origins": [ORIGIN]}
    settings = Settings.model_validate({**SETTINGS, "router": asked})
    args, heart = front_args(settings, DEMO), FakeHeart()
    heart.front = front = build_front(args, heart)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_API_KEY", "open sesame")
        app = await build_linked_app(front, args, settings)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://linked") as client:
        yield client
    front.shutdown()


async def test_the_key_guards_all_but_the_probe(client: httpx.AsyncClient) -> None:
    assert (await client.get("/health")).status_code == 200
    for path in ("/version", "/docs", "/openapi.json", "/v1/models", "/sleep"):
        assert (await client.get(path)).status_code == 401
        shown = await client.get(path, headers={"authorization": "Bearer open sesame"})
        assert shown.status_code == (403 if path == "/sleep" else 200)
    refused = await client.post("/tokenize", json={"model": "demo", "prompt": "Hi"})
    assert refused.json()["error"]["code"] == "unauthenticated"


async def test_pages_of_allowed_origins_may_read_refusals_too(client: httpx.AsyncClient) -> None:
    for origin, allowed in ((ORIGIN, ORIGIN), ("https://other.example", None)):
        answer = await client.get("/version", headers={"origin": origin})
        assert answer.status_code == 401
        assert answer.headers.get("access-control-allow-origin") == allowed
