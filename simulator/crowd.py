"""Engines that share cores, as on a small machine without accelerators.

No engine has a core of its own: the system moves them to wherever a core is free, as was measured
with three engines of one thread on two cores. While no more engines are busy than there are cores,
none is slower; beyond that all are, in proportion. When that changes, what is left of a running
iteration is stretched or shortened; decode steps in a row are cut at the end of the one that runs,
which keeps its length.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import Any

from simulator.engine import Engine


@dataclass(slots=True)
class Cores:
    """Who computes on them. `stirred` hears of each engine whose plans had to change."""

    count: float
    stirred: Callable[[Any], None]
    engines: list[tuple[CrowdedEngine, Any]] = field(default_factory=list)
    busy: set[int] = field(default_factory=set)

    def seat(self, engine: CrowdedEngine, worker: object) -> None:
        """One more engine, before it is given work."""
        engine.join_cores(self)
        self.engines.append((engine, worker))

    @property
    def taken_s(self) -> float:
        """Seconds of one core that all have taken."""
        return sum(engine.core_s for engine, _ in self.engines)

    def slowness(self, engine: CrowdedEngine) -> float:
        """How many times longer this engine takes while it computes."""
        return max((len(self.busy | {id(engine)})) / self.count, 1.0)

    def note(self, engine: CrowdedEngine, now: float) -> None:
        """Its plans have changed: others look again if it began or ended, and that matters."""
        if (id(engine) in self.busy) == (engine.ends_s < inf):
            return
        self.busy ^= {id(engine)}
        for other, worker in self.engines:
            if other is not engine and other.ends_s < inf and other.crowd(now):
                self.stirred(worker)


class CrowdedEngine(Engine):
    """An engine whose times depend on how many others are busy."""

    def join_cores(self, cores: Cores) -> None:
        """Once, before it is given work."""
        self._cores = cores
        self._by_slowness = {1.0: self.times}
        self._slowness = 1.0
        self._paced_at_s = 0.0
        self.core_s = 0.0
        """Seconds of one core that it has taken."""

    def wake(self, now: float) -> None:
        self._count(now)
        super().wake(now)

    def crowd(self, now: float) -> bool:
        """The number of busy engines has changed in the middle of something; whether it matters."""
        slowness = self._cores.slowness(self)
        if slowness == self._slowness:
            return False
        if self._planned_steps > 1:
            # The step that runs keeps the pace at which it was begun.
            self.nudge(now)
            return True
        self._count(now)
        over_s = self.ends_s
        self.ends_s = now + (over_s - now) * slowness / self._slowness
        self._slowness = slowness
        self.version += 1
        for job in self.decoding:
            if job.record.first_s == over_s:
                job.record.first_s = self.ends_s
        return True

    def _count(self, now: float) -> None:
        self.core_s += (now - self._paced_at_s) / self._slowness
        self._paced_at_s = now

    def _plan(self, now: float) -> None:
        self._paced_at_s = now
        self._slowness = slowness = self._cores.slowness(self)
        if slowness not in self._by_slowness:
            self._by_slowness[slowness] = self._by_slowness[1.0].slowed(slowness)
        self.times = self._by_slowness[slowness]
        super()._plan(now)
        self._cores.note(self, now)
