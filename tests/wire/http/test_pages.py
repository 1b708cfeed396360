"""Baton's own pages, closed routes, and the port."""

from __future__ import annotations

import logging
import os

import pytest

from baton.errors import BatonError, Reason, StartupError, StartupFault
from router.listen import bind
from tests.wire.http.support import House, complete

pytestmark = [pytest.mark.wire, pytest.mark.asyncio(loop_scope="session")]

CLOSED = [
    "/reset_prefix_cache",
    "/sleep",
    "/wake_up",
    "/collective_rpc",
    "/scale_elastic_ep",
    "/pause",
    "/resume",
    "/update_weights",
    "/v1/load_lora_adapter",
    "/invocations",
    "/inference/v1/generate",
    "/v1/chat/completions/batch",
    "/v1/responses/abc/cancel",
    "/load",
    "/start_profile",
]


@pytest.mark.parametrize("path", CLOSED)
async def test_management_is_closed(house: House, path: str):
    for response in (await house.client.post(path, json={}), await house.client.get(path)):
        assert response.status_code == 403
        assert response.json()["error"]["code"] == "route_blocked"


async def test_unknown_route(house: House):
    response = await house.client.get("/nowhere")
    assert response.status_code == 404
    assert response.json()["error"]["message"] == "Not Found"


async def test_pages(house: House):
    assert (await house.client.get("/health")).json() == {"status": "ok"}
    assert (await house.client.get("/ready")).status_code == 200
    metrics = await house.client.get("/metrics")
    assert "baton_test 7.0" in metrics.text
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert (await house.client.get("/status")).json() == {"workers": 2}
    assert (await house.client.get("/story/known/1")).text == "told"
    assert (await house.client.get("/story/unknown")).status_code == 404
    assert (await house.client.get("/explain/known")).json() == {"plans": [{"line": "to p"}]}
    assert (await house.client.get("/explain/other")).status_code == 404
    assert (await house.client.get("/openapi.json")).status_code == 200


async def test_a_scraper_that_knows_openmetrics_gets_it(house: House):
    accept = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;q=0.3,*/*;q=0.2"
    answer = await house.client.get("/metrics", headers={"accept": accept})
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert answer.text.endswith("# EOF\n")


async def test_a_client_that_asks_is_told_where_its_request_went(house: House):
    body = {"model": "demo", "prompt": "Hi", "max_tokens": 4}
    plain = await house.client.post("/v1/completions", json=body)
    assert "x-baton-route" not in plain.headers
    asked = {"x-baton-explain": "1"}
    later = await house.client.post("/v1/completions", json=body, headers=asked)
    assert later.headers["x-baton-route"] == "not decided yet"
    assert later.headers["x-request-id"] in house.heart.requests[-1].request_id
    named = {**asked, "x-request-id": "known-7"}
    told = await house.client.post("/v1/completions", json=body, headers=named)
    assert told.headers["x-baton-route"] == "to p"
    assert "known-7" in house.heart.requests[-1].request_id


async def test_not_ready(house: House):
    house.ready.append(BatonError(Reason.STARTING, "no worker yet", retry_after_s=1))
    try:
        response = await house.client.get("/ready")
        assert response.status_code == 503
        assert response.json()["error"]["code"] == "starting"
        assert (await house.client.get("/health")).status_code == 200
    finally:
        house.ready.clear()


async def test_port_taken_names_the_holder(house: House):
    with pytest.raises(StartupError) as raised:
        bind("127.0.0.1", house.port)
    assert raised.value.fault is StartupFault.PORT_TAKEN
    assert str(os.getpid()) in raised.value.details[0]


async def test_the_workers_limit_the_prompt(house: House):
    before = house.front.model_config.max_model_len
    house.front.set_model_limits(16)
    try:
        response = await complete(house, prompt="one two three four " * 10, max_tokens=4)
        assert response.status_code == 400
        models = (await house.client.get("/v1/models")).json()
        assert models["data"][0]["max_model_len"] == 16
        house.front.set_model_limits(before * 2)
        assert house.front.model_config.max_model_len == 16
    finally:
        house.front.model_config.max_model_len = before


async def test_what_clients_write_is_not_logged(house: House, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.DEBUG):
        body = {"model": "demo", "prompt": "a-secret-word", "max_tokens": 4}
        assert (await house.client.post("/v1/completions", json=body)).status_code == 200
        wrong = {**body, "max_tokens": -1}
        assert (await house.client.post("/v1/completions", json=wrong)).status_code == 400
    assert "a-secret-word" not in caplog.text
