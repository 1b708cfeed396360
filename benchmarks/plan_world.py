"""A real cluster on this machine's cores for `benchmarks.plan`: measured alone, and under loads."""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp

from baton.messages import Role
from baton.settings import Settings
from benchmarks.cpu_time import cpu_s
from benchmarks.load import StreamTimes, stream, together
from benchmarks.nodes import Nodes
from deploy.model import DEMO_NAME
from simulator.engine_model.profile import PrefillSample, Profile, StepSample
from simulator.traces.request import Request, Trace, blocks_of

KV_BYTES_PER_TOKEN = 4096
CHUNK_TOKENS = 1024
KV_GIB = 0.5
PROMPT, ANSWER = (64, 512), (8, 24)
"""Tokens, uniform between these."""
_VOCABULARY = 4000
_LENGTHS = (64, 256, 512, 1024, 2048)
_BATCHES = ((1, 64), (4, 64), (8, 64), (16, 64), (4, 1024), (8, 1024))
"""Requests at once, and tokens of their prompts."""
_STEPS = 48
_IDLE_S = 1.0
_COMPUTED = 'baton_ttft_part_seconds_sum{part="prefill_compute"}'
SPLITS: dict[str, tuple[Role, ...]] = {
    "1P2D": (Role.PREFILL, Role.DECODE, Role.DECODE),
    "2P1D": (Role.PREFILL, Role.PREFILL, Role.DECODE),
}
_PAIR = (Role.PREFILL, Role.DECODE, None)


def settings() -> Settings:
    """Everything is disaggregated, nobody is sent away, and a step is of known size."""
    return Settings.model_validate(
        {
            "router": {"port": 0, "disaggregate": "always"},
            "admission": {"shed_at": 0.0},
            "model": {"enforce_eager": True},
            "engine": {"max_batched_tokens": CHUNK_TOKENS, "kv_cache_gib": KV_GIB},
        }
    )


@dataclass(frozen=True, slots=True)
class Seen:
    """What the clients saw of one load: at the ninetieth percentile, in seconds."""

    ttft_s: float
    tpot_s: float
    requests: int


@dataclass(frozen=True, slots=True)
class Aside:
    """Processor time that clients, router and workers take beside the engines."""

    idle_cores: float
    """What they take while nobody asks."""
    request_s: float
    token_s: float
    latency_s: float
    """Of one request on idle cores, until its first token."""

    def __str__(self) -> str:
        request_ms, token_ms = self.request_s * 1e3, self.token_s * 1e3
        cores = (
            f"{self.idle_cores:.2f} cores, {request_ms:.1f} ms a request, {token_ms:.2f} a token"
        )
        return f"beside engines: {cores}; {self.latency_s * 1e3:.1f} ms to the first token"

    def cores(self, trace: Trace) -> float:
        """What that comes to under a load."""
        tokens = sum(r.output_tokens for r in trace.requests) / len(trace.requests)
        return self.idle_cores + trace.per_second * (self.request_s + tokens * self.token_s)


class World:
    """Sends prompts that nobody has sent before."""

    def __init__(self, nodes: Nodes, session: aiohttp.ClientSession) -> None:
        self._nodes = nodes
        self._session = session
        self._chance = random.Random(7)
        self.aside = Aside(0.0, 0.0, 0.0, 0.0)

    def _aside_s(self) -> float:
        pids = [os.getpid(), self._nodes.router_pid, *(w.pid for w in self._nodes.workers)]
        return sum(map(cpu_s, pids))

    async def profile(self, repeats: int) -> Profile:
        """One prefill and one decode worker, measured through the front door while no more engines
        than one compute; `aside` is known afterwards."""
        await self._group(_PAIR)
        before_s = self._aside_s()
        await asyncio.sleep(_IDLE_S)
        idle = (self._aside_s() - before_s) / _IDLE_S
        began, steps = self._clock(idle), []
        for batch, prompt in _BATCHES:
            bodies = [self._body(prompt, _STEPS) for _ in range(batch)]
            # Cached first: else the last prompts are computed while the first answers run.
            for answer in (1, _STEPS):
                asked = [{**body, "max_tokens": answer} for body in bodies]
                seen = await together(self._session, self._nodes.url, asked, answer)
            step_s = statistics.median(s.tpot_s for s in seen)
            steps.append(StepSample(batch, prompt + _STEPS // 2, step_s))
        many_s, one_s = self._clock(idle) - began, steps[0].seconds
        prefill, beside = [], list[float]()
        for tokens in _LENGTHS:
            before = await self._computed()
            seen = [await self._ask(tokens, 1) for _ in range(repeats)]
            computed_s = (await self._computed() - before) / repeats
            prefill.append(PrefillSample(tokens, (computed_s,)))
            beside += [s.ttft_s - computed_s - one_s for s in seen]
        request_s = max(self._clock(idle) - began - many_s, 0.0) / (repeats * len(_LENGTHS))
        count = sum(batch for batch, _ in _BATCHES)
        # Each was asked for twice, the first time for one token only.
        token_s = max(many_s - 2 * count * request_s, 0.0) / (count * (_STEPS - 1))
        self.aside = Aside(idle, request_s, token_s, max(statistics.median(beside), 0.0))
        return Profile("these cores", KV_BYTES_PER_TOKEN, tuple(prefill), tuple(steps))

    def _clock(self, idle: float) -> float:
        """Processor time beside engines, without what is taken anyway."""
        return self._aside_s() - idle * time.perf_counter()

    async def _computed(self) -> float:
        """Seconds that prefill workers have computed prompts so far, as the router tells."""
        async with self._session.get(f"{self._nodes.url}/metrics") as page:
            lines = (await page.text()).splitlines()
        return next((float(line.split()[-1]) for line in lines if line.startswith(_COMPUTED)), 0.0)

    async def load(self, split: str, trace: Trace, unscored: int) -> Seen:
        """Sends each request when it is due, whatever has become of the others."""
        await self._group(SPLITS[split])
        clock = asyncio.get_running_loop().time
        began_s = clock() + 0.1

        async def one(request: Request) -> StreamTimes:
            body = self._body(request.input_tokens, request.output_tokens)
            await asyncio.sleep(began_s + request.arrival_s - clock())
            return await stream(self._session, self._nodes.url, body, request.output_tokens)

        seen = (await asyncio.gather(*map(one, trace.requests)))[unscored:]
        return Seen(
            _p90([s.ttft_s for s in seen]), _p90([s.tpot_s for s in seen]), len(trace.requests)
        )

    async def _group(self, roles: Sequence[Role | None]) -> None:
        """Every pair of workers has met before anything is measured."""
        await asyncio.to_thread(self._nodes.regroup, roles)
        await asyncio.gather(*(self._ask(64, 4) for _ in range(6)))
        for _ in range(3):
            await self._ask(64, 4)

    async def _ask(self, prompt: int, answer: int) -> StreamTimes:
        return await stream(self._session, self._nodes.url, self._body(prompt, answer), answer)

    def _body(self, prompt: int, answer: int) -> dict[str, object]:
        return {
            "model": DEMO_NAME,
            "prompt": [self._chance.randrange(100, _VOCABULARY) for _ in range(prompt)],
            "max_tokens": answer,
            "temperature": 0,
            "ignore_eos": True,
        }


def made(per_s: float, seconds: float, seed: int) -> Trace:
    """Arrivals at random, prompts that share nothing."""
    chance, at_s = random.Random(seed), 0.0
    requests: list[Request] = []
    while (at_s := at_s + chance.expovariate(per_s)) < seconds:
        number, prompt = len(requests), chance.randint(*PROMPT)
        keys = tuple(range(number * 100, number * 100 + blocks_of(prompt)))
        requests.append(Request(number, at_s, prompt, chance.randint(*ANSWER), keys))
    return Trace(f"{per_s:.2f}/s", tuple(requests))


def _p90(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return ordered[max(-(-len(ordered) * 9 // 10) - 1, 0)]
