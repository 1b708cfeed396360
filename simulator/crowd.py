"""Engines that share cores, as on a small machine without accelerators.

Worker i computes on core i modulo their number. An engine takes as many times longer as engines are
busy on its core. When that number changes, what is left of a running iteration is stretched or
shortened; decode steps in a row are cut at the end of the one that runs, which keeps its length.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import Any

from simulator.engine import Engine


@dataclass(slots=True)
class Core:
    """Who computes here. `stirred` hears of each engine whose plans had to change."""

    stirred: Callable[[Any], None]
    engines: list[tuple[CrowdedEngine, Any]] = field(default_factory=list)
    busy: set[int] = field(default_factory=set)

    def others(self, engine: CrowdedEngine) -> int:
        """How many besides this one are busy."""
        return len(self.busy - {id(engine)})

    def note(self, engine: CrowdedEngine, now: float) -> None:
        """Its plans have changed: neighbours look again if it began or ended."""
        before = id(engine) in self.busy
        if before == (engine.ends_s < inf):
            return
        self.busy ^= {id(engine)}
        for other, worker in self.engines:
            if other is not engine and other.ends_s < inf:
                other.crowd(now)
                self.stirred(worker)


class CrowdedEngine(Engine):
    """An engine whose times depend on its neighbours."""

    def join_core(self, core: Core, worker: object) -> None:
        """Once, before it is given work."""
        self._core = core
        self._by_others = {0: self.times}
        self._others = 0
        core.engines.append((self, worker))

    def crowd(self, now: float) -> None:
        """The number of busy neighbours has changed in the middle of something."""
        if self._planned_steps > 1:
            self.nudge(now)
            return
        others = self._core.others(self)
        over_s = self.ends_s
        self.ends_s = now + (over_s - now) * (1 + others) / (1 + self._others)
        self._others = others
        self.version += 1
        for job in self.decoding:
            if job.record.first_s == over_s:
                job.record.first_s = self.ends_s

    def _plan(self, now: float) -> None:
        self._others = others = self._core.others(self)
        if others not in self._by_others:
            self._by_others[others] = self._by_others[0].slowed(1 + others)
        self.times = self._by_others[others]
        super()._plan(now)
        self._core.note(self, now)


class Cores:
    """All cores of the machine."""

    def __init__(self, count: int, stirred: Callable[[Any], None]) -> None:
        self._cores = [Core(stirred) for _ in range(count)]
        self._next = 0

    def seat(self, engine: CrowdedEngine, worker: object) -> None:
        """The next engine takes the next core."""
        engine.join_core(self._cores[self._next % len(self._cores)], worker)
        self._next += 1
