"""The order of events in simulated time. Equal times keep the order in which they were planned."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any, TypeAlias

Action: TypeAlias = Callable[[Any, float], None]


class Clockwork:
    """A queue of actions, each with one argument and a time."""

    def __init__(self) -> None:
        self._queue: list[tuple[float, int, Action, Any]] = []
        self._count = 0
        self.done = 0
        """Events that have happened."""

    def at(self, time_s: float, action: Action, argument: object) -> None:
        """Plans an event."""
        self._count += 1
        heapq.heappush(self._queue, (time_s, self._count, action, argument))

    @property
    def next_s(self) -> float | None:
        """When the next event is due; None when nothing is planned."""
        return self._queue[0][0] if self._queue else None

    def step(self) -> float:
        """Lets the next event happen. Returns its time."""
        now, _, action, argument = heapq.heappop(self._queue)
        self.done += 1
        action(argument, now)
        return now
