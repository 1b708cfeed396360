"""A small OpenAI endpoint whose delays, refusals and deaths are known."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

USAGE = {"prompt_tokens": 7, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 5}}
REFUSED = {"error": {"message": "all full", "type": "rate_limit_error", "code": "queue_full"}}
Handler = Callable[["Answering"], Awaitable[web.StreamResponse]]


class Answering:
    """One answer under way."""

    def __init__(self, request: web.Request, body: dict[str, Any]) -> None:
        self.request = request
        self.body = body
        self.response = web.StreamResponse(headers={"content-type": "text/event-stream"})

    async def event(self, event: object) -> None:
        if not self.response.prepared:
            await self.response.prepare(self.request)
        data = event if isinstance(event, str) else json.dumps(event)
        await self.response.write(f"data: {data}\n\n".encode())

    async def token(self, text: str = "x") -> None:
        choice = {"delta": {"content": text}} if "messages" in self.body else {"text": text}
        await self.event({"choices": [choice]})

    async def end(self, usage: object = USAGE) -> web.StreamResponse:
        await self.event({"choices": [], "usage": usage})
        await self.event("[DONE]")
        return self.response

    def die(self) -> None:
        assert self.request.transport is not None
        self.request.transport.abort()


class Endpoint:
    """Answers as `handler` does; counts."""

    def __init__(self) -> None:
        self.handler: Handler = four_tokens
        self.bodies: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.key = ""
        self.url = ""

    def locked(self, request: web.Request) -> web.Response | None:
        if self.key and request.headers.get("authorization") != f"Bearer {self.key}":
            return web.json_response({"error": {"message": "no", "code": "no_key"}}, status=401)
        return None

    async def models(self, request: web.Request) -> web.StreamResponse:
        listed = {"data": [{"id": "tiny", "max_model_len": 64}, {"id": "other"}]}
        return self.locked(request) or web.json_response(listed)

    async def generate(self, request: web.Request) -> web.StreamResponse:
        if (refused := self.locked(request)) is not None:
            return refused
        body = await request.json()
        self.paths.append(request.path)
        self.bodies.append(body)
        return await self.handler(Answering(request, body))


async def four_tokens(answer: Answering) -> web.StreamResponse:
    for _ in range(4):
        await answer.token()
    return await answer.end()


@asynccontextmanager
async def serving() -> AsyncIterator[Endpoint]:
    """One, at an address of its own."""
    endpoint = Endpoint()
    app = web.Application()
    app.router.add_get("/v1/models", endpoint.models)
    app.router.add_post("/v1/completions", endpoint.generate)
    app.router.add_post("/v1/chat/completions", endpoint.generate)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    endpoint.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield endpoint
    await runner.cleanup()
