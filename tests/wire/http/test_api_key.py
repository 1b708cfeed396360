"""Keys at the HTTP endpoint: who gets in, as whom, and what a tenant may read of another."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry

from baton.errors import StartupError
from baton.settings.access import AccessSettings
from baton.settings.model import Settings
from deploy import keys
from router.access import access_of
from router.http import Pages, build_front, build_http_app, front_args
from tests.wire.fakes import FakeHeart, Script
from tests.wire.http.support import BODIES, DEMO

pytestmark = [pytest.mark.wire, pytest.mark.asyncio(loop_scope="module")]
PLAIN = "a-key-of-nobody"
OF_ALL = ["/health", "/ready"]
OF_TENANTS = ["/v1/models", "/version", "/docs", "/openapi.json", "/story/x", "/explain/x"]
OF_OPERATORS = ["/metrics", "/targets", "/status", "/requests"]


class Doors:
    """An app with keys in front of a fake heart."""

    def __init__(self, path: Path) -> None:
        self.access = AccessSettings(keys_path=str(path))
        self.a, self.a_id = self.add("team-a")
        self.b, _ = self.add("team-b")
        self.operator, _ = self.add("ops", operator=True)
        self.seen: list[str | None] = []
        """For which tenants stories were asked."""
        self.heart = FakeHeart()
        self.client: httpx.AsyncClient

    def add(self, tenant: str, operator: bool = False) -> tuple[str, str]:
        text, key = keys.add(self.access, tenant, operator=operator)
        return text, key.id

    def told(self, _request_id: str, tenant: str | None) -> Any:
        self.seen.append(tenant)
        return [{"line": "to p"}] if tenant in (None, "team-a") else []

    async def get(self, path: str, key: str = "", **headers: str) -> httpx.Response:
        return await self.client.get(path, headers={**_bearer(key), **headers})

    async def ask(self, key: str, path: str = "/v1/completions", **headers: str) -> httpx.Response:
        body = {"model": "demo", **BODIES[path]}
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.post(path, json=body, headers={**_bearer(key), **headers})


def _bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"} if key else {}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def doors(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Doors]:
    one = Doors(tmp_path_factory.mktemp("keys") / "keys.json")
    settings = Settings.model_validate(
        {"model": {"served_name": "demo"}, "access": one.access.model_dump()}
    )
    args = front_args(settings, DEMO)
    args.api_key = [PLAIN]
    one.heart.front = front = build_front(args, one.heart)
    one.heart.script = Script(tokens=front.renderer.tokenizer.encode("Hi there")[1:])
    pages = Pages(
        lambda: None,
        one.heart.knock,
        dict,
        lambda name, tenant, _whole: "told" if one.told(name, tenant) else None,
        one.told,
        CollectorRegistry(),
    )
    app = await build_http_app(front, args, settings, pages)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as one.client:
        yield one
    await one.heart.tasks.aclose()
    front.shutdown()


async def test_wrong_missing_and_foreign_keys_get_401(doors: Doors) -> None:
    half = doors.a.rpartition("-")[0]
    mixed = f"{half}-{doors.b.rpartition('-')[2]}"
    for key in ("", "wrong", half, mixed, doors.a + "x", f"bt-{doors.a_id}-", "bt--", "\xe9"):
        for path in (*OF_TENANTS, *OF_OPERATORS, "/nowhere"):
            answer = await doors.client.get(
                path, headers=[(b"authorization", b"Bearer " + key.encode("latin-1"))]
            )
            assert answer.status_code == 401, (key, path)
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.headers["x-baton-reason"] == "unauthenticated"
            assert answer.json()["error"]["type"] == "authentication_error"
    for path in OF_ALL:
        assert (await doors.get(path)).status_code == 200


@pytest.mark.parametrize("path", BODIES)
async def test_a_key_says_whose_a_request_is(doors: Doors, path: str) -> None:
    assert (await doors.ask("", path)).status_code == 401
    assert (await doors.ask(doors.a, path)).status_code == 200
    first = doors.heart.requests[-1]
    assert (first.caller.tenant, first.caller.operator) == ("team-a", False)
    answer = await doors.client.post(
        path, json={"model": "demo", **BODIES[path]}, headers={"x-api-key": doors.b}
    )
    assert answer.status_code == 200
    second = doors.heart.requests[-1]
    assert second.caller.tenant == "team-b"
    assert list(first.tokens) == list(second.tokens)
    assert len({first.cache_salt, second.cache_salt, ""}) == 3


async def test_a_name_that_is_not_the_keys_is_refused(doors: Doors) -> None:
    assert (await doors.ask(doors.a, x_baton_tenant="team-a")).status_code == 200
    refused = await doors.ask(doors.a, x_baton_tenant="team-b")
    assert refused.status_code == 403
    assert refused.json()["error"]["code"] == "permission_denied"
    for key in (doors.operator, PLAIN):
        assert (await doors.ask(key, x_baton_tenant="team-b")).status_code == 200
        assert doors.heart.requests[-1].caller.tenant == "team-b"
    assert (await doors.ask(PLAIN)).status_code == 200
    assert doors.heart.requests[-1].caller.tenant == "default"


@pytest.mark.parametrize("path", [*OF_OPERATORS, *OF_TENANTS, "/ui/data", "/ui/request/x"])
async def test_a_line_break_at_the_end_of_a_path_opens_nothing(doors: Doors, path: str) -> None:
    for key in ("", doors.a):
        answer = await doors.get(f"{path}%0A", key)
        assert answer.status_code == 400
    answer = await doors.client.post("/v1/completions%0A", json={}, headers=_bearer(doors.a))
    assert answer.status_code == 400


async def test_what_tells_of_all_tenants_is_the_operators(doors: Doors) -> None:
    for path in (*OF_OPERATORS, "/ui/data", "/ui/request/x"):
        refused = await doors.get(path, doors.a)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "permission_denied")
    for path in OF_OPERATORS:
        for key in (doors.operator, PLAIN):
            assert (await doors.get(path, key)).status_code == 200
    for path in OF_TENANTS:
        assert (await doors.get(path, doors.a)).status_code == 200, path


@pytest.mark.parametrize("path", ["/story/x", "/explain/x"])
async def test_a_tenants_stories_are_its_own(doors: Doors, path: str) -> None:
    assert (await doors.get(path, doors.b)).status_code == 404
    assert doors.seen[-1] == "team-b"
    assert (await doors.get(path, doors.a)).status_code == 200
    assert (await doors.get(path, doors.operator)).status_code == 200
    assert doors.seen[-1] is None


async def test_nor_does_a_header_tell_of_others_requests(doors: Doors) -> None:
    asked = {"x-baton-explain": "1", "x-request-id": "x"}
    for path, key in (("/health", ""), ("/v1/models", ""), ("/v1/models", doors.b)):
        answer = await doors.get(path, key, **asked)
        assert answer.headers.get("x-baton-route") in (None, "not decided yet"), path
    assert (await doors.get("/v1/models", doors.a, **asked)).headers["x-baton-route"] == "to p"


async def test_no_client_gets_the_cache_of_another_tenant(doors: Doors) -> None:
    salts = set()
    await doors.ask(doors.a)
    salts.add(doors.heart.requests[-1].cache_salt)
    wanted = doors.heart.requests[-1].cache_salt
    for key, salt in ((doors.b, wanted), (doors.a, wanted), (doors.a, "mine"), (doors.b, "mine")):
        body = {"model": "demo", "prompt": "Hi", "cache_salt": salt}
        answer = await doors.client.post("/v1/completions", json=body, headers=_bearer(key))
        assert answer.status_code == 200
        assert doors.heart.requests[-1].cache_salt == doors.heart.cores[-1].cache_salt
        salts.add(doors.heart.requests[-1].cache_salt)
    assert len(salts) == 5
    await doors.client.post(
        "/v1/completions", json={"model": "demo", "prompt": "Hi", "n": 3}, headers=_bearer(doors.a)
    )
    assert {core.cache_salt for core in doors.heart.cores[-3:]} == {wanted}


async def test_keys_are_in_no_log(doors: Doors, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        for key in (doors.a, doors.operator, PLAIN, "bt-x-wrong-secret"):
            await doors.ask(key)
            await doors.get("/metrics", key)
    refused = [record for record in caplog.records if record.message == "request refused"]
    assert {record.reason for record in refused} == {"unauthenticated", "permission_denied"}
    assert {record.client for record in refused} == {"127.0.0.1"}
    told = [str(vars(record)) for record in caplog.records if record.name != "tests"]
    for key in (doors.a, doors.operator, PLAIN, "bt-x-wrong-secret"):
        # A secret may have hyphens of its own.
        assert not any(key.split("-", 2)[2] in one for one in told)
    assert not any("Bearer" in one for one in told)


async def test_a_revoked_key_is_refused_by_who_serves_already(
    doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("baton.watched._LOOK_EVERY_S", 0.0)
    key, key_id = doors.add("team-c")
    assert (await doors.get("/v1/models", key)).status_code == 200
    keys.revoke(doors.access, key_id)
    assert (await doors.get("/v1/models", key)).status_code == 401
    assert (await doors.get("/v1/models", doors.a)).status_code == 200
    with _broken(doors):
        assert (await doors.get("/v1/models", doors.a)).status_code == 200


@contextmanager
def _broken(doors: Doors) -> Iterator[None]:
    path = Path(str(doors.access.keys_path))
    before = path.read_text()
    path.write_text("{")
    yield
    path.write_text(before)


async def test_a_file_that_cannot_be_read_is_refused_at_start(tmp_path: Path) -> None:
    settings = Settings.model_validate({"access": {"keys_path": str(tmp_path / "none")}})
    with pytest.raises(StartupError, match=r"access\.keys_path is .*none"):
        access_of(settings, front_args(settings, DEMO))
