"""What the HTTP tests share: the running server, and ways to ask it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from baton.errors import BatonError
from router.front import BatonFront
from tests.wire.fakes import FakeHeart

DEMO = Path(__file__).parents[3] / "deploy" / "demo_model"
TEXT = " The quick brown fox jumps over the lazy dog, and then it rests."
CHAT = [{"role": "user", "content": "Hello"}]
BODY_MIB = 12
BODIES: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": "Hi"},
    "/v1/chat/completions": {"messages": CHAT},
    "/v1/responses": {"input": "Hi"},
    "/v1/messages": {"messages": CHAT, "max_tokens": 4},
}


@dataclass
class House:
    """A server over a front over a fake heart."""

    front: BatonFront
    heart: FakeHeart
    app: FastAPI
    client: httpx.AsyncClient
    words: list[int]
    """The tokens of `TEXT`."""
    ready: list[BatonError]
    """Why /ready refuses; empty: it does not."""
    port: int


async def until(condition, timeout_s: float = 2.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 (what is waited for sets no event)
            await asyncio.sleep(0.01)


async def post(house: House, path: str, **body: Any) -> httpx.Response:
    return await house.client.post(path, json={"model": "demo", **body})


async def complete(house: House, **body: Any) -> httpx.Response:
    return await post(house, "/v1/completions", **{"prompt": "Hi", "max_tokens": 64, **body})


async def chat(house: House, **body: Any) -> httpx.Response:
    return await post(house, "/v1/chat/completions", **{"messages": CHAT, **body})


def events_of(response: httpx.Response) -> list[dict[str, Any]]:
    lines = [line[6:] for line in response.text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]
