"""A scraper gets the metrics in its format, from a router's own port and from a worker's."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain

from engine.metrics_server import MetricsServer
from router.listen import bind, serve
from router.scrape import metrics_app

pytestmark = pytest.mark.wire
OPEN = {"accept": "application/openmetrics-text; version=1.0.0"}


@pytest.fixture
def registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    Counter("baton_things", "Things.", registry=registry).inc(3, {"trace_id": "abc"})
    return registry


async def test_a_router_answers_on_its_own_port(registry: CollectorRegistry) -> None:
    server = await serve(metrics_app(registry), bind("127.0.0.1", 0))
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client:
            text = await client.get("/metrics")
            rich = await client.get("/metrics", headers=OPEN)
            nothing = await client.get("/v1/models")
    finally:
        await server.stop(1)
    families = [f for f in plain(text.text) if f.name == "baton_things"]
    assert families[0].samples[0].value == 3
    exemplar = next(f for f in open_metrics(rich.text)).samples[0].exemplar
    assert exemplar is not None
    assert exemplar.labels == {"trace_id": "abc"}
    assert nothing.status_code == 404


async def test_a_worker_keeps_the_names_of_vllm_until_it_stops(registry: CollectorRegistry) -> None:
    Gauge("vllm:running", "Named as vLLM does.", registry=registry).set(2)
    server = MetricsServer("127.0.0.1", registry)
    async with httpx.AsyncClient() as client:
        for headers in ({}, OPEN):
            answer = await client.get(f"http://127.0.0.1:{server.port}/metrics", headers=headers)
            assert "vllm:running 2.0" in answer.text
            assert answer.headers["content-type"].startswith("text/plain")
        assert (await client.get(f"http://127.0.0.1:{server.port}/")).status_code == 404
        await asyncio.to_thread(server.stop)
        with pytest.raises(httpx.ConnectError):
            await client.get(f"http://127.0.0.1:{server.port}/metrics")
