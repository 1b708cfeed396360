"""What a router's metrics cost: to be scraped, and per token.

usage: python -m benchmarks.metrics_cost [--quick] [--json FILE]
Scraping: the metrics of a router with 64 workers that report everything they can, 100 tenants and
16 classes are rendered again and again, in both formats; `metrics_ms_p99` and `metrics_bytes` are
of the dearer one. Per token: two routers in this process, the real one behind vLLM's own server,
one with its metrics and one that keeps none, serve the same requests, whose workers are played: 16
streams of 64 tokens, one frame a step and worker. They take turns at every step, and each step
counts as its median over the rounds: on a shared machine whole rounds are dearer by up to a half,
whichever router has them. `router_cpu_per_token_rise` is of the sums of these steps. Neither
sockets nor gRPC are in it: the real part is smaller. The last line is one JSON object.
"""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from prometheus_client import CollectorRegistry

from baton.percentile import percentile
from baton.settings import Settings
from benchmarks.metrics_world import (
    OPENMETRICS,
    TEXT,
    Played,
    busy_router,
    scope_of,
    settings,
    tenants,
    without_metrics,
)
from benchmarks.outputs import command, tell
from deploy.model import model_path
from router.exchange import ARRIVED_KEY
from router.exposition import rendered
from router.http import Pages, build_front, build_http_app, front_args

STREAMS, TOKENS, PROMPT_TOKENS = 16, 64, 256
_TURNS, _PATIENCE_S = 4, 10.0
SCRAPE_EVERY_S = 15.0


@dataclass(frozen=True, slots=True)
class Size:
    scrapes: int
    """Of each format."""
    rounds: int
    """Of each router."""


QUICK, FULL = Size(100, 80), Size(1000, 600)


# --- scraping -------------------------------------------------------------------------------------


def scraped(size: Size) -> dict[str, Any]:
    """What it takes to render everything."""
    router = busy_router()
    found: dict[str, tuple[float, float, int]] = {}
    gc.collect()
    gc.freeze()
    for accept in (TEXT, OPENMETRICS):
        times = [_render(router.metrics.registry, accept) for _ in range(size.scrapes)]
        wall_ms = [wall for wall, _, _ in times]
        cpu_ms = median(cpu for _, cpu, _ in times)
        found[accept] = (percentile(wall_ms, 0.99) or 0.0, cpu_ms, max(n for _, _, n in times))
    return {
        "metrics_ms_p99": round(max(wall for wall, _, _ in found.values()), 2),
        "metrics_cpu_ms_p50": round(max(cpu for _, cpu, _ in found.values()), 2),
        "metrics_bytes": max(size for _, _, size in found.values()),
        "workers": len(router.heart.status()["workers"]),
        "tenants": len(tenants()),
    }


def _render(registry: CollectorRegistry, accept: str) -> tuple[float, float, int]:
    wall, cpu = time.perf_counter_ns(), time.thread_time_ns()
    text, _ = rendered(registry, accept)
    cpu_ms = (time.thread_time_ns() - cpu) / 1e6
    return (time.perf_counter_ns() - wall) / 1e6, cpu_ms, len(text)


# --- per token ------------------------------------------------------------------------------------


class Side:
    """One router, with vLLM's server before it and played workers behind it."""

    def __init__(self, chosen: Settings, *, metered: bool) -> None:
        self._settings = chosen
        self._played = Played(chosen, workers=2)
        if not metered:
            without_metrics(self._played)
        self._number = 0
        self._front: Any = None
        self._app: Any = None
        self._readers: list[asyncio.Future[None]] = []

    async def up(self, args: Any) -> None:
        """Build it, and let its workers report."""
        heart = self._played.heart
        self._front = build_front(args, heart)
        heart.attach(self._front)
        pages = Pages(
            ready=heart.check_ready,
            knock=heart.door.knock,
            status=heart.status,
            story=heart.story,
            explain=heart.explain,
            registry=self._played.metrics.registry,
        )
        self._app = await build_http_app(self._front, args, self._settings, pages)
        self._played.up()

    async def begin(self) -> float:
        """Requests come, and their prompts are computed. Processor time, in microseconds."""
        began = time.process_time_ns()
        requests = [self._request(number) for number in range(STREAMS)]
        self._readers = [asyncio.ensure_future(self._read(*request)) for request in requests]
        async with asyncio.timeout(_PATIENCE_S):
            while self._played.heart.inflight < STREAMS:  # noqa: ASYNC110 - the server's threads
                await asyncio.sleep(0.001)
        self._played.compute_prompts()
        return (time.process_time_ns() - began) / 1e3

    async def step(self) -> float:
        """Every answer grows by a token."""
        began = time.process_time_ns()
        self._played.step(TOKENS)
        # So many turns of the loop bring a token through vLLM's server.
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        return (time.process_time_ns() - began) / 1e3

    async def end(self) -> float:
        """Every answer gets its last token."""
        began = time.process_time_ns()
        self._played.step(TOKENS)
        async with asyncio.timeout(_PATIENCE_S):
            await asyncio.gather(*self._readers)
        return (time.process_time_ns() - began) / 1e3

    def _request(self, number: int) -> tuple[dict[str, Any], bytes]:
        self._number += 1
        first = self._number * PROMPT_TOKENS
        body = {
            "prompt": [(first + n) % 4000 + 10 for n in range(PROMPT_TOKENS)],
            "max_tokens": TOKENS,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        return scope_of(number), json.dumps(body).encode()

    async def _read(self, scope: dict[str, Any], body: bytes) -> None:
        chunks: list[bytes] = []
        asked = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> dict[str, Any]:
            if not asked:
                await asyncio.Event().wait()
            return asked.pop()

        async def send(message: dict[str, Any]) -> None:
            chunks.append(message.get("body", b""))

        await self._app({**scope, ARRIVED_KEY: time.monotonic()}, receive, send)
        if f'"completion_tokens":{TOKENS}' not in b"".join(chunks).decode():
            raise RuntimeError(f"an answer is not whole: {b''.join(chunks[:3])!r}")

    def close(self) -> None:
        self._front.shutdown()


async def per_token(size: Size) -> dict[str, Any]:
    """What a token costs on both sides."""
    chosen = settings()
    args = front_args(chosen, model_path(chosen))
    off, on = (Side(chosen, metered=metered) for metered in (False, True))
    for side in (off, on):
        await side.up(args)
    for _ in range(3):
        await _round((off, on))
    gc.collect()
    gc.freeze()
    gc.disable()
    rounds = [await _turn(off, on, turn) for turn in range(size.rounds)]
    gc.enable()
    off.close()
    on.close()
    plain_us, metered_us = (_typical(side) for side in zip(*rounds, strict=True))
    rise = metered_us / plain_us - 1
    return {
        "router_cpu_per_token_rise": round(rise, 4),
        "router_cpu_us_per_token": round(plain_us, 2),
        "metrics_cpu_us_per_request": round(rise * plain_us * TOKENS, 1),
    }


_Parts = list[float]
"""Processor time of the parts of a round, in microseconds."""


async def _turn(off: Side, on: Side, turn: int) -> tuple[_Parts, _Parts]:
    """Who begins changes every time."""
    if turn % 2:
        plain, metered = await _round((off, on))
    else:
        metered, plain = await _round((on, off))
    return plain, metered


async def _round(sides: tuple[Side, Side]) -> tuple[_Parts, _Parts]:
    """Part by part in turn, so that what the machine does meanwhile is done to both."""
    parts = [[await side.begin() for side in sides]]
    parts += [[await side.step() for side in sides] for _ in range(TOKENS - 1)]
    parts.append([await side.end() for side in sides])
    first, second = map(list, zip(*parts, strict=True))
    return first, second


def _typical(rounds: Sequence[_Parts]) -> float:
    """Of a token, where each part counts as its median over the rounds."""
    medians: list[float] = [median(part) for part in zip(*rounds, strict=True)]
    return sum(medians) / (STREAMS * TOKENS)


def main(argv: Sequence[str] | None = None) -> int:
    chosen = command(__doc__, "a short run: under a minute").parse_args(argv)
    size = QUICK if chosen.quick else FULL
    figures = scraped(size) | asyncio.run(per_token(size))
    # A scrape stops the router's loop as well: its part of a core.
    figures["scrape_cpu_share"] = round(figures["metrics_cpu_ms_p50"] / SCRAPE_EVERY_S / 1e3, 5)
    tell(figures, chosen.json)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
