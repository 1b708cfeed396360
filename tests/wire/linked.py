"""Real front-end processes of vLLM over a scripted heart."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from baton.errors import StartupError
from baton.settings.model import Settings
from deploy.front_commands import rust_binary
from router.engine_link import FrontEnd, ModelLimits
from router.engine_links import EngineLinks
from router.front_processes import FrontProcesses, Launch, Seat
from router.listen import bind
from tests.wire.fakes import FakeHeart

SETTINGS = {"model": {"served_name": "demo", "tool_call_parser": "hermes"}}
LIMITS = ModelLimits(2048, 16, 1000, "bfloat16")
START_S = 60


def rust_settings() -> Settings:
    """Settings that name the Rust front end. Skips the test where there is none."""
    chosen = os.environ.get("VLLM_RUST_FRONTEND_PATH")
    settings = Settings.model_validate({**SETTINGS, "router": {"rust_front_path": chosen}})
    try:
        rust_binary(settings)
    except StartupError:
        pytest.skip("no Rust front end here: make rust-front")
    return settings


@dataclass
class Linked:
    """Front-end processes, and the heart behind them."""

    heart: FakeHeart
    links: EngineLinks
    processes: FrontProcesses
    client: httpx.AsyncClient
    port: int
    ever: list[str] = field(default_factory=list)

    @classmethod
    async def start(cls, launch: Launch, count: int = 1) -> Linked:
        heart, door, ever = FakeHeart(), bind("127.0.0.1", 0), []
        links = heart.front = EngineLinks(heart)
        processes = FrontProcesses(launch, _Attach(links, ever))
        port = door.getsockname()[1]
        processes.start([Seat(f"f{number}", door) for number in range(count)])
        url = f"http://127.0.0.1:{port}"
        # A connection that is kept may be closed by the server while it is used again.
        limits = httpx.Limits(max_keepalive_connections=0)
        client = httpx.AsyncClient(base_url=url, timeout=START_S, trust_env=False, limits=limits)
        assert (await client.get("/health")).status_code == 200
        return cls(heart, links, processes, client, port, ever)

    async def stop(self) -> None:
        await self.client.aclose()
        await self.processes.aclose(5)
        self.links.close()
        await self.heart.tasks.aclose()
        assert not self.processes.pids


@dataclass
class _Attach:
    links: EngineLinks
    ever: list[str]

    def attach(self, name: str, input_address: str, output_address: str, tenant: str) -> None:
        self.ever.append(name)
        self.links.attach(FrontEnd(name, input_address, output_address, tenant), LIMITS)

    def detach(self, name: str) -> None:
        self.links.detach(name)


def model() -> Path:
    from tests.wire.http.support import DEMO

    return DEMO
