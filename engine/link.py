"""One router's stream of frames, and what the router has heard over it."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass

from baton.wire import worker_pb2 as wire
from engine.frames import cache_message
from engine.holdings import CacheView
from kv_transfer.report import TransferReport

FRAMES_MAX = 4096
"""Frames that may wait for one router; a router further behind is cut off."""
TRANSFER_EVERY_S = 0.5
"""At most so often a router hears of transfers: the report is larger than a frame."""
COSTS_EVERY_S = 1.0
"""At most so often a router hears of costs: a fit moves little from step to step."""
CACHE_EVERY_S = 0.05
"""A router without frames of its own hears of a changed cache so often."""


@dataclass(slots=True)
class Link:
    """One router's stream. Broken links take no frames; the service ends them."""

    router_id: str
    frames: asyncio.Queue[wire.StepFrame | None]
    cache: CacheView
    sequence: int = 0
    broken: bool = False
    pushed_at: float = -math.inf
    _told: TransferReport | None = None
    """The last report of transfers that went up it."""
    _told_at: float = -math.inf
    _lessons: int = -1
    """How much was known when the costs went up it."""
    _lessons_at: float = -math.inf

    def push(self, frame: wire.StepFrame, now: float) -> None:
        """Every frame tells what is new in the cache: a view is as old as its last frame."""
        if self.broken:
            return
        if self.frames.qsize() >= FRAMES_MAX:
            self.cut()
            return
        self.sequence += 1
        frame.sequence = self.sequence
        frame.cache.CopyFrom(cache_message(self.cache.take()))
        self.pushed_at = now
        self.frames.put_nowait(frame)

    def cut(self) -> None:
        self.broken = True
        self.frames.put_nowait(None)

    def transfer_news(self, report: TransferReport | None, now: float) -> TransferReport | None:
        """The report, if it is time to tell it."""
        if report is self._told or now - self._told_at < TRANSFER_EVERY_S:
            return None
        self._told, self._told_at = report, now
        return report

    def wants_costs(self, lessons: int, now: float) -> bool:
        """Whether it is time to tell what so many samples taught; they are told then."""
        if lessons == self._lessons or now - self._lessons_at < COSTS_EVERY_S:
            return False
        self._lessons, self._lessons_at = lessons, now
        return True

    def wants_cache(self, now: float) -> bool:
        """Whether news of the cache has waited long enough for a frame."""
        due = now - self.pushed_at >= CACHE_EVERY_S
        return due and self.cache.pending and not self.broken
