"""One gRPC server for all tests of this folder, in one event loop, beside the HTTP server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import httpx
import pytest_asyncio
from baton_client.v1 import service_pb2_grpc
from prometheus_client import CollectorRegistry

from baton.settings.model import Settings
from router.http import Pages, build_front, build_http_app, front_args
from router.listen import bind
from router.listen import serve as serve_http
from router.rpc import Place, serve
from router.rpc_requests import Requests
from tests.wire.fakes import FakeHeart, Script
from tests.wire.http.support import DEMO, TEXT, until
from tests.wire.rpc.support import BODY_MIB, MAX_INFLIGHT, House


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def served() -> AsyncIterator[House]:
    settings = Settings.model_validate(
        {
            "model": {"served_name": "demo"},
            "router": {"max_body_mib": BODY_MIB, "max_inflight_requests": MAX_INFLIGHT},
        }
    )
    heart, args, refusal = FakeHeart(), front_args(settings, DEMO), []
    heart.front = front = build_front(args, heart)

    def ready() -> None:
        if refusal:
            raise refusal[0]

    pages = Pages(
        ready=ready,
        knock=heart.knock,
        status=dict,
        story=lambda request_id, _tenant, _whole: "told" if request_id == "known" else None,
        explain=lambda _: [],
        registry=CollectorRegistry(),
    )
    app = await build_http_app(front, args, settings, pages)
    http = await serve_http(app, bind("127.0.0.1", 0))
    requests = Requests(front, app.state)
    server = await serve(requests, pages, settings.router, Place("127.0.0.1", 0))
    words = front.renderer.tokenizer.encode(TEXT, add_special_tokens=False)
    address = f"127.0.0.1:{server.port}"
    async with (
        grpc.aio.insecure_channel(address) as channel,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{http.port}", trust_env=False) as client,
    ):
        stub = service_pb2_grpc.BatonStub(channel)
        parts = (app, requests, pages)
        yield House(front, heart, stub, channel, client, words, refusal, server, *parts)
    await server.stop(0)
    await http.stop(1)
    await heart.tasks.aclose()
    front.shutdown()


@pytest_asyncio.fixture(loop_scope="session")
async def house(served: House) -> AsyncIterator[House]:
    """The server with a plain script; at the end nothing may be left of any request."""
    served.heart.script = Script(tokens=served.words)
    for log in (
        served.heart.requests,
        served.heart.cores,
        served.heart.aborted,
        served.heart.callers,
    ):
        log.clear()
    yield served
    await until(lambda: not served.heart.live and not served.server.running)
    assert not served.front.unfinished
    assert not served.front.output_processor.parent_requests
    assert not served.front.output_processor.external_req_ids
