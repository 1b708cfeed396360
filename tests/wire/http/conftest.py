"""One server for all HTTP tests, in one event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest_asyncio
from prometheus_client import CollectorRegistry, Gauge

from baton.settings.model import Settings
from deploy.front_commands import python_launch, rust_launch
from router.http import Pages, build_front, build_http_app, front_args
from router.listen import bind, serve
from tests.wire.fakes import FakeHeart, Script
from tests.wire.http.support import BODY_MIB, DEMO, TEXT, House, until
from tests.wire.linked import SETTINGS, Linked, rust_settings
from tests.wire.test_tether import runs


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def served() -> AsyncIterator[House]:
    settings = Settings.model_validate(
        {
            "model": {"served_name": "demo", "tool_call_parser": "hermes"},
            "router": {"max_body_mib": BODY_MIB},
        }
    )
    heart, args, refusal = FakeHeart(), front_args(settings, DEMO), []
    heart.front = front = build_front(args, heart)
    registry = CollectorRegistry()
    Gauge("baton_test", "A metric.", registry=registry).set(7)

    def ready() -> None:
        if refusal:
            raise refusal[0]

    pages = Pages(
        ready=ready,
        knock=heart.knock,
        status=lambda: {"workers": 2},
        story=lambda request_id, *_: "told" if request_id == "known/1" else None,
        explain=lambda request_id, _: [{"line": "to p"}] if "known" in request_id else [],
        registry=registry,
    )
    app = await build_http_app(front, args, settings, pages)
    server = await serve(app, bind("127.0.0.1", 0))
    words = front.renderer.tokenizer.encode(TEXT, add_special_tokens=False)
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{server.port}", timeout=20, trust_env=False
    ) as client:
        yield House(front, heart, app, client, words, refusal, server.port)
    await server.stop(1)
    await heart.tasks.aclose()
    front.shutdown()


@pytest_asyncio.fixture(loop_scope="session")
async def house(served: House) -> AsyncIterator[House]:
    """The server with a plain script; at the end nothing may be left of any request."""
    served.heart.script = Script(tokens=served.words)
    for log in (served.heart.requests, served.heart.cores, served.heart.aborted):
        log.clear()
    yield served
    await until(lambda: not served.heart.live and not served.front.unfinished)
    assert not served.heart.live
    assert not served.front.unfinished
    assert not served.front.output_processor.parent_requests
    assert not served.front.output_processor.external_req_ids


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def python_front() -> AsyncIterator[Linked]:
    """vLLM's Python server in a process of its own; it takes seconds to start."""
    settings = Settings.model_validate({**SETTINGS, "router": {"max_body_mib": BODY_MIB}})
    linked = await Linked.start(python_launch(settings, DEMO))
    pids = linked.processes.pids
    yield linked
    await linked.stop()
    assert not any(runs(pid) for pid in pids)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def rust_front() -> AsyncIterator[Linked]:
    """vLLM's Rust front end, where it is installed."""
    linked = await Linked.start(rust_launch(rust_settings(), DEMO, "demo"))
    yield linked
    await linked.stop()
