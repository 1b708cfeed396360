"""The way in to a router whose front ends are processes: it starts and closes as a server does."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from baton.errors import StartupError, StartupFault
from baton.settings import Settings
from deploy import front_commands
from deploy.front_commands import rust_binary, rust_launch
from deploy.front_ends import FrontEnds, _healthy, front_ends_of
from router.front_processes import Ends, Launch
from router.listen import bind, serve
from router.own_pages import own_pages
from tests.fakes.worker import info
from tests.wire.fakes import FakeHeart, Script
from tests.wire.linked import SETTINGS, model, rust_settings
from tests.wire.served import until


def _settings(**router: object) -> Settings:
    chosen = rust_settings().router.rust_front_path
    asked = {"front": "rust", "rust_front_path": chosen, **router}
    return Settings.model_validate(
        {**SETTINGS, "router": asked, "cluster": {"drain_timeout_s": 5}, "admission": {}}
    )


class House:
    def __init__(self, settings: Settings) -> None:
        self.heart = FakeHeart(Script(tokens=[100, 200]))
        found = front_ends_of(settings, model(), "demo", self.heart)
        assert found is not None
        self.fronts = found
        self.heart.front = found.links
        self.door = bind("127.0.0.1", 0)
        self.port = self.door.getsockname()[1]

    async def ask(self, port: int = 0, **body: object) -> httpx.Response:
        url = f"http://127.0.0.1:{port or self.port}"
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=20) as client:
            asked = {"model": "demo", "prompt": "Hi", "max_tokens": 8, **body}
            return await client.post("/v1/completions", json=asked)


@pytest_asyncio.fixture
async def house() -> AsyncIterator[House]:
    with bind("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    house = House(_settings(front_tenants={"acme": port}, grpc=False))
    worker = replace(info("digest"), max_model_len_tokens=64)
    house.fronts.follow([worker], 512)
    await house.fronts.start(house.door)
    yield house
    await house.fronts.stop(5)
    assert house.fronts.clients == 0
    await house.heart.tasks.aclose()


async def test_a_tenant_is_known_by_its_port(house: House) -> None:
    port = house.fronts._settings.router.front_tenants["acme"]
    assert house.fronts.port == house.port
    for at, tenant in ((house.port, "default"), (port, "acme")):
        answer = await house.ask(at)
        assert answer.status_code == 200
        assert house.heart.requests[-1].caller.tenant == tenant


async def test_the_workers_limit_is_the_front_ends(house: House) -> None:
    answer = await house.ask(prompt="word " * 100)
    assert answer.status_code == 400
    assert "64" in answer.json()["error"]["message"]


async def test_closing_answers_what_has_come_and_takes_nothing_more(house: House) -> None:
    house.heart.script = Script(tokens=[100], endless=True, delay_s=0.02)
    asking = asyncio.ensure_future(house.ask(max_tokens=40))
    while not house.fronts.links.open:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    await house.fronts.close()
    answer = await asking
    assert (answer.status_code, answer.json()["usage"]["completion_tokens"]) == (200, 40)
    with pytest.raises(httpx.ConnectError):
        await house.ask()


async def test_front_ends_do_not_wait_for_workers() -> None:
    house = House(_settings())
    house.fronts.follow([], 512)
    await house.fronts.start(house.door)
    assert (await house.ask()).status_code == 200
    await house.fronts.stop(5)
    await house.heart.tasks.aclose()


async def test_front_ends_that_never_serve_are_a_typed_fault(tmp_path: Path) -> None:
    broken = tmp_path / "vllm-rs"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    asked = {"front": "rust", "rust_front_path": str(broken)}
    settings = Settings.model_validate(
        {**SETTINGS, "router": asked, "engine": {"start_timeout_s": 1}}
    )
    house = House(settings)
    with pytest.raises(StartupError) as caught:
        await house.fronts.start(house.door)
    assert caught.value.fault is StartupFault.START_TIMEOUT
    assert "started anew" in str(caught.value)
    await house.fronts.stop(1)


def test_no_binary_is_a_typed_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"front": "rust", "rust_front_path": str(tmp_path / "none")}
    with pytest.raises(StartupError) as caught:
        rust_binary(Settings.model_validate({**SETTINGS, "router": asked}))
    assert caught.value.fault is StartupFault.FRONT_END_MISSING
    assert "make rust-front" in caught.value.hint
    monkeypatch.setattr(front_commands, "_places", lambda: [tmp_path / "here"])
    with pytest.raises(StartupError, match="not in this environment"):
        rust_launch(Settings.model_validate(SETTINGS), model(), "demo")


def test_the_rust_front_end_does_not_stand_in_for_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_API_KEY", "secret")
    with pytest.raises(StartupError) as caught:
        rust_launch(Settings.model_validate(SETTINGS), model(), "demo")
    assert caught.value.fault is StartupFault.SETTINGS_INVALID
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("front", ["auto", "in-process"])
async def test_without_processes_the_router_serves_itself(front: str) -> None:
    settings = Settings.model_validate({**SETTINGS, "router": {"front": front}})
    assert front_ends_of(settings, model(), "demo", FakeHeart()) is None


def test_tenants_of_processes_need_processes() -> None:
    with pytest.raises(ValueError, match="front_tenants"):
        Settings.model_validate({"router": {"front_tenants": {"acme": 8101}}})


ANSWERS = """
import pathlib, select, socket, sys, time
door, ready = socket.socket(fileno=int(sys.argv[1])), pathlib.Path(sys.argv[2])
while not ready.exists():
    time.sleep(0.01)
poll = select.epoll()
poll.register(door, select.EPOLLIN)
while poll.poll():
    client = door.accept()[0]
    client.recv(4096)
    client.sendall(b"HTTP/1.1 200 OK\\r\\ncontent-length: 0\\r\\n\\r\\n")
    client.close()
"""


def _fake_launch(ready: Path) -> Launch:
    """Starts what answers as soon as a file is there."""

    def launch(ends: Ends) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-I", "-S", "-c", ANSWERS, str(ends.fds[0]), str(ready)]
        return subprocess.Popen(command, pass_fds=ends.fds)

    return launch


async def test_a_predecessor_at_the_same_socket_does_not_make_it_ready(tmp_path: Path) -> None:
    asked = {"front": "rust", "front_processes": 2}
    settings, door = Settings.model_validate({**SETTINGS, "router": asked}), bind("127.0.0.1", 0)
    before, after = tmp_path / "before", tmp_path / "after"
    before.touch()
    old = FrontEnds(settings, _fake_launch(before), FakeHeart())
    await old.start(door.dup())
    new = FrontEnds(settings, _fake_launch(after), FakeHeart())
    starting = asyncio.ensure_future(new.start(door))
    await until(lambda: new.clients == 2)
    assert await _healthy(door), "the predecessor answers"
    await asyncio.sleep(0.2)
    assert not starting.done()
    after.touch()
    await starting
    await old.stop(1)
    assert await _healthy(door)
    await new.stop(1)


async def test_seats_of_tenants_have_names_of_their_own(tmp_path: Path) -> None:
    with bind("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    asked = {"front": "rust", "front_tenants": {"0": port}, "grpc": False}
    settings = Settings.model_validate({**SETTINGS, "router": asked})
    fronts = FrontEnds(settings, _fake_launch(tmp_path), FakeHeart())
    await fronts.start(bind("127.0.0.1", 0))
    assert sorted(fronts.links.attached) == ["front-0.0", "tenant-0.0"]
    await fronts.stop(1)


async def test_nobody_waits_in_a_socket_that_is_closing(tmp_path: Path) -> None:
    settings = Settings.model_validate({**SETTINGS, "router": {"front": "rust"}})
    fronts = FrontEnds(settings, _fake_launch(tmp_path), FakeHeart())
    door = bind("127.0.0.1", 0)
    await fronts.start(door)
    (pid,) = fronts._processes.pids
    os.kill(pid, signal.SIGSTOP)
    closing = asyncio.ensure_future(fronts.stop(1))
    await asyncio.sleep(0)
    await until(lambda: door.fileno() == -1)
    assert not closing.done()
    await closing


async def test_the_routers_own_address_has_pages_and_no_api() -> None:
    async def page(_request: Request) -> Response:
        return PlainTextResponse("a page", 401)

    app = Starlette(routes=[Route("/{path:path}", page, methods=["GET", "POST"])])
    pages = own_pages(app, CollectorRegistry(), lambda: [{"targets": ["a:1"]}])
    server = await serve(pages, bind("127.0.0.1", 0))
    url = f"http://127.0.0.1:{server.port}"
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        for path in ("/status", "/ui/data", "/story/x/y", "/health"):
            assert (await client.get(path)).text == "a page"
        for path in ("/v1/completions", "/uixyz", "/", "/docs", "/metrics/x"):
            answer = await client.post(path)
            assert answer.json()["error"]["code"] == "route_blocked"
        assert (await client.get("/metrics")).status_code == 200, "asks for no key"
        assert (await client.get("/targets")).json() == [{"targets": ["a:1"]}]
    await server.stop(1)
