"""Calls something a few times per second, whatever it raises."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from baton.clock import Clock
from baton.tasks import TaskFault, Tasks

TICK_S = 0.05
_AFTER_FAULT_S = 1.0


class Ticker:
    """Runs in the event loop in which it is started, until its tasks are closed."""

    def __init__(self, tasks: Tasks, clock: Clock, tick: Callable[[float], None]) -> None:
        self._tasks = tasks
        self._clock = clock
        self._tick = tick

    def start(self, after_s: float = 0.0) -> None:
        """Ticks from so many seconds on."""
        ticks = self._for_ever(after_s)
        self._tasks.spawn(ticks, "tick", eternal=True, on_fault=self._again)

    def _again(self, _fault: TaskFault) -> None:
        # What raised has been logged. Without ticks no other request would have a deadline.
        self.start(after_s=_AFTER_FAULT_S)

    async def _for_ever(self, after_s: float) -> None:
        if after_s > 0:
            await asyncio.sleep(after_s)
        while True:
            self._tick(self._clock.now())
            await asyncio.sleep(TICK_S)
