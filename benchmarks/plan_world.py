"""A real cluster on this machine's cores for `benchmarks.plan`: measured alone, and under loads."""

from __future__ import annotations

import asyncio
import os
import random
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp

from baton.messages import Role
from baton.settings import Settings
from benchmarks.cpu_time import Cores, cpu_s
from benchmarks.load import StreamTimes, stream, together
from benchmarks.nodes import Nodes
from benchmarks.plan_model import (
    CHUNK_TOKENS,
    KV_BYTES_PER_TOKEN,
    KV_GIB,
    PAIR,
    Machine,
    Seen,
    Taken,
)
from deploy.model import DEMO_NAME
from simulator.engine_model.fit import Fit, fit
from simulator.engine_model.profile import PrefillSample, Profile, StepSample
from simulator.traces.request import Request, Trace

_VOCABULARY = 4000
_LENGTHS = (64, 256, 512, 1024, 2048)
_BATCHES = ((1, 64), (4, 64), (8, 64), (16, 64), (4, 1024), (8, 1024))
"""Requests at once, and tokens of their prompts."""
_STEPS = 48
_LATENCIES = 8
"""More short prompts: what is not computing is a small difference, and differs."""
_IDLE_S = 1.0
_LOOKS = 100
_TOLD_TOKENS = 4
"""So long an answer that what its prefill took is known before it ends."""
_COMPUTED = 'baton_ttft_part_seconds_sum{part="prefill_compute"}'


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
class Load:
    """What one load came to."""

    seen: Seen
    seconds: float
    taken: Taken
    stretch: float
    """How many times its processor time anything took: cores are stolen by other machines."""


class World:
    """Sends prompts that nobody has sent before."""

    def __init__(self, nodes: Nodes, session: aiohttp.ClientSession) -> None:
        self._nodes = nodes
        self._session = session
        self._chance = random.Random(7)
        self._prefill_s: dict[int, list[float]] = defaultdict(list)
        self._step_s: dict[tuple[int, int], list[float]] = defaultdict(list)
        self._beside_s: list[float] = []

    async def measured(self, rounds: int) -> tuple[Machine, Fit]:
        """One prefill and one decode worker through the front door, while no more engines than one
        compute. In rounds: the speed of such machines changes within seconds."""
        await self.group(PAIR)
        before = self._taken()
        await asyncio.sleep(_IDLE_S)
        idle = (self._taken() - before) / _IDLE_S
        for _ in range(rounds):
            for tokens in (*_LENGTHS, *[_LENGTHS[0]] * _LATENCIES):
                await self._prefill(tokens)
            for batch in _BATCHES:
                await self._step(batch)
        found = fit(self._profile())
        latency_s = statistics.median(self._beside_s) - statistics.median(self._step_s[_BATCHES[0]])
        cores = len(os.sched_getaffinity(0))
        return Machine(found.times, cores, max(latency_s, 0.0), idle), found

    def _profile(self) -> Profile:
        prefill = (PrefillSample(n, tuple(values)) for n, values in self._prefill_s.items())
        steps = (
            StepSample(batch, prompt + _STEPS // 2, statistics.median(values))
            for (batch, prompt), values in self._step_s.items()
        )
        return Profile("these cores", KV_BYTES_PER_TOKEN, tuple(prefill), tuple(steps))

    def _taken(self) -> Taken:
        beside = [os.getpid(), self._nodes.router_pid, *(w.pid for w in self._nodes.workers)]
        engines = [w.engine_pid for w in self._nodes.workers]
        return Taken(sum(map(cpu_s, engines)), sum(map(cpu_s, beside)))

    async def load(self, trace: Trace) -> Load:
        """Sends each request when it is due, whatever has become of the others."""
        clock = asyncio.get_running_loop().time
        before, cores, began_s = self._taken(), Cores.now(), clock()

        async def one(request: Request) -> StreamTimes:
            body = self._body(request.input_tokens, request.output_tokens)
            await asyncio.sleep(began_s + request.arrival_s - clock())
            return await stream(self._session, self._nodes.url, body, request.output_tokens)

        seen = await asyncio.gather(*map(one, trace.requests))
        latencies = Seen(tuple(s.ttft_s for s in seen), tuple(s.tpot_s for s in seen))
        taken, stretch = self._taken() - before, Cores.now().stretch_since(cores)
        return Load(latencies, clock() - began_s, taken, stretch)

    async def group(self, roles: Sequence[Role | None]) -> None:
        """Every pair of workers has met before anything is measured."""
        await asyncio.to_thread(self._nodes.regroup, roles)
        await asyncio.gather(*(self._ask(64, 4) for _ in range(6)))
        for _ in range(3):
            await self._ask(64, 4)

    async def _prefill(self, tokens: int) -> None:
        cores = Cores.now()
        computed_s, ttft_s = await self._asked(tokens)
        stretch = Cores.now().stretch_since(cores)
        self._prefill_s[tokens].append(computed_s / stretch)
        self._beside_s.append((ttft_s - computed_s) / stretch)

    async def _asked(self, tokens: int) -> tuple[float, float]:
        """Seconds that a prompt was computed, and until its first token."""
        before_s = await self._computed_s()
        seen, after_s = await self._ask(tokens, _TOLD_TOKENS), before_s
        # The router counts a request once it has ended, which its client may know before.
        for _ in range(_LOOKS):
            if (after_s := await self._computed_s()) > before_s:
                break
        return after_s - before_s, seen.ttft_s

    async def _step(self, batch: tuple[int, int]) -> None:
        self._step_s[batch].append(await self._stepped(batch))

    async def _stepped(self, batch: tuple[int, int]) -> float:
        count, prompt = batch
        bodies = [self._body(prompt, _STEPS) for _ in range(count)]
        # Cached first: else the last prompts are computed while the first answers run.
        for answer in (1, _STEPS):
            asked = [{**body, "max_tokens": answer} for body in bodies]
            cores = Cores.now()
            seen = await together(self._session, self._nodes.url, asked, answer)
        return statistics.median(s.tpot_s for s in seen) / Cores.now().stretch_since(cores)

    async def _computed_s(self) -> float:
        """Seconds that prefill workers have computed prompts so far, as the router tells."""
        async with self._session.get(f"{self._nodes.url}/metrics") as page:
            lines = (await page.text()).splitlines()
        return next((float(line.split()[-1]) for line in lines if line.startswith(_COMPUTED)), 0.0)

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
