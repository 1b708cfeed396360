"""Sends what a plan says when it says so, and watches the router meanwhile."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from baton.tasks import Tasks
from benchmarks.front import Server
from benchmarks.overload_http import Connections, Done, Exchange, message
from benchmarks.overload_nodes import Nodes
from benchmarks.overload_plan import PROMPT_TOKENS, Arrival, Phase, arrivals
from benchmarks.overload_result import End, Outcome, Seen

_WORDS = ("self", "name", "data", "else", "line", "file", "path", "item", "list", "text", "node")
"""Each is one token with the space before it, and all are equally long."""
_WORD_BYTES = 5
_POOL_WORDS = 20_000
_STOCK = 48
_SAMPLE_S = 0.25
_PAGE_BYTES = 4096
_WARM_UP = 6


class Prompts:
    """Prompts of any length, each a piece of one long text, which costs less than making them."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._text = "".join(f" {word}" for word in self._chance.choices(_WORDS, k=_POOL_WORDS))

    def next(self, tokens: int) -> str:
        """One of so many tokens; the tokenizer puts one of its own before the words."""
        words = tokens - 1
        start = self._chance.randrange(_POOL_WORDS - words) * _WORD_BYTES
        return self._text[start : start + words * _WORD_BYTES]


class Load:
    """Open loop: nothing that the router does delays the next request. Use it as a context."""

    def __init__(self, nodes: Nodes, seed: int) -> None:
        split = urlsplit(nodes.url)
        self._host = split.netloc
        self._connections = Connections(split.hostname or "", split.port or 0)
        self._nodes = nodes
        self._prompts = Prompts(seed)
        self._seed = seed
        self._tasks = Tasks("load")
        self._under_way = 0
        self._quiet = asyncio.Event()
        """Set while no request is under way."""

    async def aclose(self) -> None:
        """Gives up what is under way."""
        self._connections.cut()
        # The ends of connections are told by the loop's next turns.
        await asyncio.sleep(0)
        await self._tasks.aclose()

    async def warm_up(self) -> None:
        """First uses are slow, and the router is to learn what work costs."""
        failed: list[Outcome] = []

        def done(outcome: Outcome) -> None:
            self._ended()
            if outcome.end is not End.ANSWERED:
                failed.append(outcome)

        for number in range(_WARM_UP * 2):
            tokens = PROMPT_TOKENS[number % 2]
            await self._send(Arrival(0, 0, "warm-up", tokens), time.perf_counter(), done)
            if number % _WARM_UP == 0 or number == _WARM_UP * 2 - 1:
                await self.settled(20)
        if failed:
            raise RuntimeError(f"the first requests were not answered: {failed[0]}")

    async def run(self, phase: Phase, capacity: float) -> Seen:
        """Send all requests of a phase. Answers still come in when this returns."""
        plan = arrivals(phase, capacity, self._seed)
        await self._connections.stock(_STOCK)
        started = time.perf_counter()
        seen = Seen(phase, len(plan), began_at=time.monotonic())

        def done(outcome: Outcome) -> None:
            self._ended()
            seen.outcomes.append(outcome)

        watching = self._tasks.spawn(self._watch(seen, started), "memory")
        with _cpu(seen, self._nodes.router_pid):
            for arrival in plan:
                await self._send(arrival, started, done)
            await asyncio.sleep(max(started + phase.seconds - time.perf_counter(), 0))
        watching.cancel()
        return seen

    async def _send(self, arrival: Arrival, started: float, done: Done) -> None:
        wait_s = started + arrival.at_s - time.perf_counter()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        prompt = self._prompts.next(arrival.prompt_tokens)
        text = message(self._host, arrival.tenant, prompt)
        self._under_way += 1
        self._quiet.clear()
        exchange = Exchange(arrival, started, done)
        try:
            await self._connections.ask(exchange, text)
        except OSError as error:
            exchange.lost(f"no connection: {error}")

    def _ended(self) -> None:
        self._under_way -= 1
        if not self._under_way:
            self._quiet.set()

    async def settled(self, at_most_s: float) -> None:
        """Wait for answers that are still to come."""
        with suppress(TimeoutError):
            async with asyncio.timeout(at_most_s):
                await self._quiet.wait()

    def cut(self) -> None:
        """Give up what is under way."""
        self._connections.cut()

    async def _watch(self, seen: Seen, started: float) -> None:
        while True:
            at_s = time.perf_counter() - started
            seen.rss_bytes.append((at_s, resident_bytes(self._nodes.router_pid)))
            await asyncio.sleep(_SAMPLE_S)


def resident_bytes(pid: int) -> int:
    """Memory of a process that is in RAM."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES


@contextmanager
def _cpu(seen: Seen, router_pid: int) -> Iterator[None]:
    router_s, client_s = Server("router", "", router_pid).cpu_s(), time.process_time()
    yield
    seen.router_cpu_s = Server("router", "", router_pid).cpu_s() - router_s
    seen.client_cpu_s = time.process_time() - client_s
