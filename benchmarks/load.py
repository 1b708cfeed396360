"""A light client for streams of an OpenAI endpoint: it shares the machine with what it measures."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import aiohttp


@dataclass(frozen=True, slots=True)
class StreamTimes:
    """One streamed completion, in seconds from its sending."""

    ttft_s: float
    total_s: float
    tokens: int

    @property
    def tpot_s(self) -> float:
        return (self.total_s - self.ttft_s) / max(1, self.tokens - 1)


async def stream(
    session: aiohttp.ClientSession, url: str, body: dict[str, object], tokens: int
) -> StreamTimes:
    """Raises aiohttp.ClientResponseError for any status but 200.

    `tokens` is what the server was made to generate: chunks may hold several under load.
    """
    started = time.perf_counter()
    first = 0.0
    async with session.post(f"{url}/v1/completions", json={**body, "stream": True}) as answer:
        answer.raise_for_status()
        async for chunk in answer.content.iter_any():
            if not first and b"data: {" in chunk:
                first = time.perf_counter() - started
    return StreamTimes(first, time.perf_counter() - started, tokens)


async def together(
    session: aiohttp.ClientSession, url: str, bodies: list[dict[str, object]], tokens: int
) -> list[StreamTimes]:
    """All streams at once."""
    return list(await asyncio.gather(*(stream(session, url, body, tokens) for body in bodies)))
