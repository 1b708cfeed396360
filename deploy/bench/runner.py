"""An open loop: requests leave when they are due, whatever has become of those before them.

Nothing waits for anything but the clock, so a slow endpoint is not spared. What bounds a run is
told: a request that is due while too many are in flight is not sent and counts as a failure, and
so does one that is unfinished when the time is up.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import islice

import aiohttp

from baton.clock import Clock, MonotonicClock
from baton.tasks import Tasks
from deploy.bench.client import NOT_SENT, UNFINISHED, Outcome, Target, ask
from deploy.bench.prompts import Prompts
from simulator.traces.request import Request, Trace

_AHEAD = 32
"""So many requests, at most, are made before they are due."""


@dataclass(slots=True)
class Tally:
    """How far a run is."""

    planned: int
    sent: int = 0
    ended: int = 0
    failed: int = 0

    @property
    def in_flight(self) -> int:
        return self.sent - self.ended


@dataclass(slots=True)
class Run:
    """What became of a load."""

    outcomes: list[Outcome] = field(default_factory=list)
    interrupted: bool = False
    """Somebody ended it early."""
    took_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a run may not exceed."""

    in_flight: int
    seconds: float


class Runner:
    """Sends one load. Belongs to one event loop."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        target: Target,
        prompts: Prompts,
        bounds: Bounds,
        watch: Callable[[Tally], None],
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or MonotonicClock()
        self._session = session
        self._target = target
        self._prompts = prompts
        self._bounds = bounds
        self._watch = watch
        self._run = Run()
        self._tally = Tally(0)
        self._began = 0.0

    async def run(self, trace: Trace, stop: asyncio.Event) -> Run:
        """All of it, or what there was time for. Ends early, and well, when `stop` is set."""
        self._tally.planned = len(trace.requests)
        self._began = self._clock.now()
        async with Tasks("bench") as tasks:
            sending = tasks.spawn(self._send(trace, tasks), "load")
            stopped = tasks.spawn(stop.wait(), "stop")
            await asyncio.wait(
                {sending, stopped},
                timeout=self._bounds.seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
        self._run.interrupted = stop.is_set()
        self._run.took_s = self._now_s()
        for outcome in self._run.outcomes:
            if outcome.failure == UNFINISHED:
                outcome.total_s = self._run.took_s - outcome.sent_s
        if not sending.cancelled():
            sending.result()
        return self._run

    async def _send(self, trace: Trace, tasks: Tasks) -> None:
        answers = []
        async with aclosing(self._bodies(trace)) as bodies:
            async for request, body in bodies:
                await asyncio.sleep(max(request.arrival_s - self._now_s(), 0.0))
                if self._tally.in_flight >= self._bounds.in_flight:
                    self._leave_out(request)
                else:
                    self._tally.sent += 1
                    asking = self._ask(self._outcome(request), body)
                    answers.append(tasks.spawn(asking, f"request {request.number}"))
        await asyncio.gather(*answers)

    async def _bodies(self, trace: Trace) -> AsyncGenerator[tuple[Request, bytes], None]:
        """Made ahead, in a thread: a long prompt takes milliseconds that others would wait for."""
        loop, thread = asyncio.get_running_loop(), ThreadPoolExecutor(1, "bench prompts")
        ahead: deque[tuple[Request, asyncio.Future[bytes]]] = deque()
        requests = iter(trace.requests)
        try:
            while True:
                for request in islice(requests, _AHEAD - len(ahead)):
                    ahead.append((request, loop.run_in_executor(thread, self._body, request)))
                if not ahead:
                    return
                request, body = ahead.popleft()
                yield request, await body
        finally:
            thread.shutdown(wait=False, cancel_futures=True)

    def _body(self, request: Request) -> bytes:
        return self._target.body(self._prompts.of(request), request.output_tokens)

    def _outcome(self, request: Request) -> Outcome:
        outcome = Outcome(request.number, request.arrival_s, self._now_s(), request.input_tokens)
        self._run.outcomes.append(outcome)
        return outcome

    def _leave_out(self, request: Request) -> None:
        self._outcome(request).failure = NOT_SENT
        self._tally.failed += 1
        self._watch(self._tally)

    async def _ask(self, outcome: Outcome, body: bytes) -> None:
        self._watch(self._tally)
        # Not before: what kept this task from running is late as well.
        outcome.sent_s = self._now_s()
        await ask(self._session, self._target, body, outcome, self._clock)
        self._tally.ended += 1
        self._tally.failed += bool(outcome.failure)
        self._watch(self._tally)

    def _now_s(self) -> float:
        return self._clock.now() - self._began
