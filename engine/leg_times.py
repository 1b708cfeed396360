"""Where a leg's time on its worker went: the scheduler's moments as durations. Pure.

The engine's process runs on the worker's host and counts with the host's monotonic clock, as the
worker does. What leaves the host are durations.
"""

from __future__ import annotations

from collections.abc import Iterable

from baton.messages import LegTimes
from engine.ports import Moments

_QUEUED, _SCHEDULED = "QUEUED", "SCHEDULED"


def moments(events: Iterable[tuple[str, float]]) -> Moments:
    """What vLLM's events of a request say, as (name, seconds) in their order.

    A request is queued when it comes. One that waits for KV is queued again (`engine.inside`) when
    its blocks are there and when the KV has come; the last counts where a load was repeated. What
    follows the first scheduling is computation, a preemption's wait included.
    """
    queued: list[float] = []
    for name, at in events:
        if name == _SCHEDULED:
            return _found(queued, at)
        if name == _QUEUED:
            queued.append(at)
    return _found(queued, None)


def _found(queued: list[float], scheduled_at: float | None) -> Moments:
    fetched = queued[1:]
    if not fetched:
        return Moments(scheduled_at=scheduled_at)
    return Moments(fetched[0], fetched[-1], scheduled_at)


def leg_times(taken_at: float, found: Moments, now: float) -> LegTimes:
    """The durations from taking the leg until `now`, when its first output came.

    They add up to that time and none is negative. What is not known counts to the next one: to
    waiting where there was no fetch, to computing where no scheduling is known.
    """
    room = _between(taken_at, found.room_at, now, otherwise=taken_at)
    landed = _between(room, found.landed_at, now, otherwise=room)
    scheduled = _between(landed, found.scheduled_at, now, otherwise=landed)
    return LegTimes(room - taken_at, landed - room, scheduled - landed, max(now - scheduled, 0.0))


def _between(low: float, at: float | None, high: float, *, otherwise: float) -> float:
    return otherwise if at is None else max(low, min(at, high))
