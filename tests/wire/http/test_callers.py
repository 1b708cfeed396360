"""Who calls reaches the heart, at the door and with the request."""

from __future__ import annotations

import asyncio

import pytest

from router.caller import ANYBODY, Caller
from router.policy.tenants import Priority
from tests.wire.http.support import BODIES, House

pytestmark = [pytest.mark.wire, pytest.mark.asyncio(loop_scope="session")]


@pytest.mark.parametrize("path", BODIES)
async def test_tenant_and_priority_come_with_the_request(house: House, path: str):
    house.heart.script.tokens = house.words[:3]
    headers = {"x-baton-tenant": "team-a", "x-baton-priority": "low"}
    body = {"model": "demo", **BODIES[path]}
    response = await house.client.post(path, json=body, headers=headers)
    assert response.status_code == 200
    caller = Caller("team-a", Priority.LOW)
    assert house.heart.callers[-1] == caller
    assert house.heart.requests[-1].caller == caller


async def test_one_connections_requests_are_not_mixed_up(house: House):
    house.heart.script.tokens = house.words[:3]

    async def ask(tenant: str) -> None:
        body = {"model": "demo", "prompt": f"Hi {tenant}", "max_tokens": 3}
        headers = {"x-baton-tenant": tenant} if tenant else {}
        answer = await house.client.post("/v1/completions", json=body, headers=headers)
        assert answer.status_code == 200

    before = len(house.heart.requests)
    await asyncio.gather(*(ask(tenant) for tenant in ("a", "b", "", "a")))
    tenants = [request.caller.tenant for request in house.heart.requests[before:]]
    assert sorted(tenants) == ["a", "a", "b", "default"]


async def test_nobody_in_particular(house: House):
    house.heart.script.tokens = house.words[:3]
    await house.client.post("/v1/completions", json={"model": "demo", "prompt": "Hi"})
    assert house.heart.requests[-1].caller == ANYBODY


async def test_a_deadline_comes_with_the_request(house: House):
    house.heart.script.tokens = house.words[:3]
    body = {"model": "demo", "prompt": "Hi"}
    headers = {"x-baton-timeout-s": "3.5"}
    response = await house.client.post("/v1/completions", json=body, headers=headers)
    assert response.status_code == 200
    assert house.heart.requests[-1].deadline_s == 3.5
    headers = {"x-baton-timeout-s": "soon"}
    response = await house.client.post("/v1/completions", json=body, headers=headers)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "x-baton-timeout-s"
