"""One client after the other leaves; the block pools are watched until nothing is left of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import aiohttp

from baton.tasks import Tasks
from benchmarks.disconnects_nodes import Nodes
from benchmarks.disconnects_plan import (
    ANSWER_TOKENS,
    CHUNK_TOKENS,
    PROMPT_TOKENS,
    Leaving,
    Moment,
    Result,
    Took,
    leavings,
    moment_now,
    prompt,
    reached,
)
from benchmarks.faults_result import say
from deploy.model import DEMO_NAME

POLL_S = 0.002
SETTLE_S = 0.06
"""Nothing may come back for so long. Engines tell of their tickets every 0.05 s."""
BOUND_S = 15.0
TELL_EACH = 50


async def leave_all(nodes: Nodes, result: Result) -> None:
    """Book all disconnects, on engines that have nothing else to do."""
    await _Run(nodes, result).all()


class NotFreedError(Exception):
    """Something of a request stays."""


class TooLateError(Exception):
    """The request was answered before its client left."""


@dataclass(frozen=True, slots=True)
class _Freed:
    """Moments of the monotonic clock."""

    at_s: float
    """Everything is free."""
    blocks_at_s: float
    """Both pools have all blocks."""
    step_at_s: float
    """The end of the first step of prefill that ended meanwhile; 0 = none did."""

    def since(self, left_at: float) -> Took:
        """The same as times."""
        step_s = max(0.0, self.step_at_s - left_at)
        return Took(self.at_s - left_at, self.blocks_at_s - left_at, step_s)


class _Run:
    """One client after the other."""

    def __init__(self, nodes: Nodes, result: Result) -> None:
        self._nodes = nodes
        self._result = result
        self._worst_s = 0.0
        connector = aiohttp.TCPConnector(force_close=True, limit=0)
        self._http = aiohttp.ClientSession(
            connector=connector, timeout=aiohttp.ClientTimeout(total=60)
        )

    async def all(self) -> None:
        """Book what happens; what cannot be carried out is broken."""
        async with self._http, Tasks("clients") as tasks:
            try:
                await self._warm_up()
                await self._leave_all(tasks)
                self._result.serves = await self._answered(CHUNK_TOKENS) > 0
            except (aiohttp.ClientError, NotFreedError, OSError, TimeoutError) as error:
                self._result.broken.append(f"{type(error).__name__}: {error}".rstrip(": "))
                say(self._result.broken[-1])

    async def _warm_up(self) -> None:
        """The first handoff connects the engines. Another one tells how long a step takes."""
        await self._answered(CHUNK_TOKENS)
        longest = PROMPT_TOKENS[1]
        self._result.chunk_s = await self._answered(longest) / -(-longest // CHUNK_TOKENS)
        await self._freed()
        say(f"a step of prefill takes {self._result.chunk_s:.3f} s")

    async def _answered(self, tokens: int) -> float:
        """One whole request; returns how many seconds it took."""
        asked = prompt("whole", time.monotonic(), tokens=tokens)
        began = time.monotonic()
        await self._ask(_body(asked, streams=False, answers=1, tokens=1))
        return time.monotonic() - began

    async def _ask(self, body: dict[str, Any]) -> None:
        """Raises aiohttp.ClientError for any status but 200."""
        async with self._http.post(f"{self._nodes.url}/v1/completions", json=body) as answer:
            answer.raise_for_status()
            await answer.read()

    async def _leave_all(self, tasks: Tasks) -> None:
        size, began = self._result.size, time.monotonic()
        for leaving in leavings(self._result.seed):
            enough = time.monotonic() - began > size.seconds
            if self._result.disconnects >= size.most or enough:
                return
            await self._until_empty()
            try:
                await self._one(leaving, tasks)
            except TooLateError:
                self._result.counts["too_late"] += 1
                await self._freed()
            if leaving.number % TELL_EACH == TELL_EACH - 1:
                say(f"{self._result.disconnects} disconnects")

    async def _until_empty(self) -> None:
        """Whatever is there now came back after its time."""
        if not all(pool.empty for pool in self._nodes.look()):
            self._result.counts["late"] += 1
            say(f"something came back late: {self._nodes.look()}")
            await self._freed()

    # -- one

    async def _one(self, leaving: Leaving, tasks: Tasks) -> None:
        asked = [tasks.spawn(self._ask(body), "client") for body in _bodies(leaving)]
        try:
            await self._come(leaving, asked)
            moment = moment_now(*self._nodes.look())
            _raise_if_over(asked)
        finally:
            left_at = time.monotonic()
            for client in asked:
                client.cancel()
            await asyncio.wait(asked)
        took = (await self._freed(left_at)).since(left_at)
        self._result.book(leaving, moment, took)
        if took.freed_s > self._worst_s:
            self._worst_s = took.freed_s
            say(f"slowest so far: {took}, {moment}: {leaving}")

    async def _come(self, leaving: Leaving, asked: list[asyncio.Task[None]]) -> None:
        """Wait for its moment."""
        if leaving.moment is not Moment.ARRIVING:
            async with asyncio.timeout(BOUND_S):
                while not reached(leaving, *self._nodes.look()):
                    await asyncio.sleep(POLL_S)
                    _raise_if_over(asked)
        await asyncio.sleep(leaving.lingers_s)

    async def _freed(self, since: float = 0.0) -> _Freed:
        """Wait until nothing is left, and goes on to be so. Raises NotFreedError."""
        give_up_at = time.monotonic() + BOUND_S
        free_at = blocks_at = step_at = 0.0
        while time.monotonic() < give_up_at:
            pools = self._nodes.look()
            now = max(pool.at_s for pool in pools)
            if not step_at and not free_at and pools[0].step_ended_s > since:
                step_at = pools[0].step_ended_s
            blocks_at = 0.0 if any(pool.used for pool in pools) else blocks_at or now
            if not all(pool.empty for pool in pools):
                free_at = 0.0
            elif not free_at:
                free_at = await self._router_free_at()
            elif now - free_at > SETTLE_S:
                return _Freed(free_at, blocks_at, step_at)
            await asyncio.sleep(POLL_S)
        self._result.left_blocks = sum(pool.used for pool in pools)
        raise NotFreedError(f"not free after {BOUND_S:.0f} s: {pools}")

    async def _router_free_at(self) -> float:
        """When the router, too, said that it has no request; 0 = it has one."""
        async with self._http.get(f"{self._nodes.url}/status") as answer:
            page = await answer.json()
        busy = page["inflight_requests"] or any(
            worker["answering_legs"] or worker["prefill_legs"] for worker in page["workers"]
        )
        return 0.0 if busy else time.monotonic()


def _raise_if_over(asked: list[asyncio.Task[None]]) -> None:
    """Raises TooLateError, or what a client was told."""
    for client in asked:
        if client.done():
            client.result()
            raise TooLateError


def _bodies(leaving: Leaving) -> Iterator[dict[str, Any]]:
    for client in range(leaving.clients):
        asked = prompt(leaving.number, client, tokens=leaving.prompt_tokens)
        yield _body(asked, leaving.streams, leaving.answers, ANSWER_TOKENS)


def _body(asked: list[int], streams: bool, answers: int, tokens: int) -> dict[str, Any]:
    return {
        "model": DEMO_NAME,
        "prompt": asked,
        "max_tokens": tokens,
        "min_tokens": tokens,
        "ignore_eos": True,
        "temperature": 1.0,
        "n": answers,
        "stream": streams,
    }
