"""Rival laws of scaling, as their projects describe them, each with one number to tune: `aim`.

They share what Baton's law has: two pools, the same router, workers that drain. Where they are
known to be blind they are helped: what waits in routers counts as queue and as latency, and
Dynamo's planner does not kill what runs. Each has its published interval, windows and delays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from simulator.plugs import ClusterSight, Controller, PoolView, Wanted
from simulator.results import Slo, percentile


class Counts(NamedTuple):
    """Workers of the two pools."""

    prefill: int
    decode: int


@dataclass(frozen=True, slots=True)
class Scene:
    """What a law is told: promises, bounds, and what one worker does (tokens/s), as profiled."""

    slo: Slo
    least: Counts
    most: Counts
    prefill_tokens_per_s: float
    decode_tokens_per_s: float

    def clip(self, prefill: float, decode: float) -> Counts:
        """The nearest counts within the bounds."""
        return Counts(
            min(max(math.ceil(prefill - 1e-9), self.least.prefill), self.most.prefill),
            min(max(math.ceil(decode - 1e-9), self.least.decode), self.most.decode),
        )


Law = Callable[[Counts, ClusterSight, float], Counts]
"""(present, view, now) -> wanted; an object with a state of its own."""


@dataclass(frozen=True, slots=True)
class Rival:
    """A law, how often it looks, over which window, and what is tried of its one number."""

    make: Callable[[Scene, float], Law]
    every_s: float
    window_s: float
    aims: tuple[float, ...]
    whole: bool = False
    """One pool that does both, as published."""


class Driven(Controller):
    """A law as a controller."""

    def __init__(self, law: Law) -> None:
        self._law = law

    def decide(self, view: ClusterSight, memory: object, now: float) -> tuple[Wanted, None]:
        """What the law says of the workers that are there or coming."""
        wanted = self._law(Counts(_all(view.prefill), _all(view.decode)), view, now)
        return Wanted(wanted.prefill, wanted.decode), None


class Static:
    """Always the most."""

    def __init__(self, scene: Scene, aim: float) -> None:
        self._scene = scene

    def __call__(self, present: Counts, view: ClusterSight, now: float) -> Counts:
        return self._scene.most


@dataclass
class Steady:
    """Kubernetes' stabilization: the least of what was wanted lately upwards, the most downwards,
    and no faster than so many workers a minute."""

    up_s: float
    down_s: float
    down_one_per_s: float = 0.0
    _said: list[tuple[float, Counts]] = field(default_factory=list)
    _removed_s: dict[int, float] = field(default_factory=dict)

    def __call__(self, present: Counts, wanted: Counts, now: float) -> Counts:
        self._said.append((now, wanted))
        kept_s = now - max(self.up_s, self.down_s)
        self._said = [said for said in self._said if said[0] >= kept_s]
        return Counts(*(self._one(i, present[i], now) for i in (0, 1)))

    def _one(self, pool: int, present: int, now: float) -> int:
        up = min(w[pool] for at_s, w in self._said if at_s >= now - self.up_s)
        down = max(w[pool] for at_s, w in self._said if at_s >= now - self.down_s)
        if up > present:
            return min(up, present + max(present, 4))
        if down >= present:
            return present
        if not self.down_one_per_s:
            return down
        if now - self._removed_s.get(pool, -math.inf) < self.down_one_per_s:
            return present
        self._removed_s[pool] = now
        return present - 1


class QueueLength:
    """KEDA on queue length (5 waiting per worker) and on requests running in decode (`aim`),
    driving an HPA with its default windows: up at once, down after 300 s."""

    def __init__(self, scene: Scene, aim: float) -> None:
        self._scene, self._running = scene, aim
        self._steady = Steady(0.0, 300.0)

    def __call__(self, present: Counts, view: ClusterSight, now: float) -> Counts:
        queued = view.unplaced + sum(view.prefill.waiting)
        decode = max(sum(view.decode.batch) / self._running, _waiting(view) / 5)
        return self._steady(present, self._scene.clip(queued / 5, decode), now)


class RayServe:
    """Ongoing requests per worker over `aim` in decode and a fortieth of it in prefill, averaged
    over 30 s; up after 30 s, down after 600 s."""

    def __init__(self, scene: Scene, aim: float) -> None:
        self._scene, self._target = scene, aim
        self._steady = Steady(30.0, 600.0)
        self._seen: list[tuple[float, float, float]] = []

    def __call__(self, present: Counts, view: ClusterSight, now: float) -> Counts:
        prefill = view.unplaced + sum(view.prefill.waiting)
        decode = sum(view.decode.batch) + _waiting(view)
        self._seen = [s for s in self._seen if s[0] > now - 30] + [(now, prefill, decode)]
        means = [sum(s[i] for s in self._seen) / len(self._seen) for i in (1, 2)]
        wanted = self._scene.clip(means[0] / (self._target / 40), means[1] / self._target)
        return self._steady(present, wanted, now)


class LlmD:
    """llm-d's control law on each pool: worst of P90 TTFT and P90 TPOT over their promises,
    clamped, averaged over 45 s, credited for workers that start. `aim` is its upper threshold
    (0.55); the lower keeps its proportion (0.40)."""

    def __init__(self, scene: Scene, aim: float) -> None:
        self._scene, self._up, self._down = scene, aim, aim * 0.40 / 0.55
        self._seen: list[tuple[float, float]] = []
        self._steady = Steady(30.0, 180.0, down_one_per_s=120.0)

    def __call__(self, present: Counts, view: ClusterSight, now: float) -> Counts:
        slo = self._scene.slo
        ttft = max(_p90(view.prefill.latency_s), view.oldest_s)
        raw = min(max(ttft / slo.ttft_s, _p90(view.decode.latency_s) / slo.tpot_s), 2.0)
        self._seen = [s for s in self._seen if s[0] > now - 45] + [(now, raw)]
        signal = sum(s for _, s in self._seen) / len(self._seen)
        pools = zip(present, (view.prefill.ready, view.decode.ready), strict=True)
        wanted = [self._one(n, ready, signal) for n, ready in pools]
        return self._steady(present, self._scene.clip(*wanted), now)

    def _one(self, present: int, ready: int, signal: float) -> int:
        credited = signal * ready / present if 0 < ready < present else signal
        if credited > self._up:
            return present + math.ceil(present * (credited / self._up - 1))
        if signal < self._down:
            return present - math.floor(present * (1 - signal / self._down))
        return present


class Dynamo:
    """Every 180 s a floor: the load of the last window over what a worker does, used to `aim`.
    Between, one worker more when the estimated TTFT (TPOT) breaks the promise, one fewer when the
    others would keep it by a fifth; never while a change is pending."""

    def __init__(self, scene: Scene, aim: float) -> None:
        self._scene, self._aim = scene, aim
        self._floor = scene.least
        self._planned_s = -math.inf

    def __call__(self, present: Counts, view: ClusterSight, now: float) -> Counts:
        scene = self._scene
        if now - self._planned_s >= 180.0:
            self._planned_s = now
            per_s = 1 / view.window_s / self._aim
            self._floor = scene.clip(
                view.input_tokens * per_s / scene.prefill_tokens_per_s,
                view.output_tokens * per_s / scene.decode_tokens_per_s,
            )
        held_s = view.unplaced_tokens / scene.prefill_tokens_per_s / max(view.prefill.ready, 1)
        ttft = (min(view.prefill.backlog_s, default=0.0) + held_s) / scene.slo.ttft_s
        tpot = percentile(sorted(view.decode.latency_s) or [0.0], 0.5) / scene.slo.tpot_s
        return scene.clip(
            max(self._step(view.prefill, present.prefill, ttft), self._floor.prefill),
            max(self._step(view.decode, present.decode, tpot), self._floor.decode),
        )

    def _step(self, pool: PoolView, present: int, estimate: float) -> int:
        if pool.starting or pool.draining:
            return present
        if estimate > 1:
            return present + 1
        fewer = present - 1
        return fewer if fewer and estimate * present / fewer < 0.8 else present


class HeteroScale:
    """Decode tokens per second drive both pools: proportional to `aim` of what a worker does,
    within a dead band of a tenth; a fifth more when TPOT is 1.2 times its promise; prefill follows
    at the ratio of the largest cluster."""

    def __init__(self, scene: Scene, aim: float) -> None:
        self._scene, self._aim = scene, aim

    def __call__(self, present: Counts, view: ClusterSight, now: float) -> Counts:
        scene = self._scene
        target = self._aim * scene.decode_tokens_per_s
        busy = view.finished_tokens / view.window_s / target / max(view.decode.ready, 1)
        decode: float = present.decode
        if abs(busy - 1) > 0.1 and not view.decode.starting:
            decode = view.decode.ready * busy
        if _p90(view.decode.latency_s) > 1.2 * scene.slo.tpot_s:
            decode = max(decode, present.decode * 1.2)
        return scene.clip(decode * scene.most.prefill / scene.most.decode, decode)


RIVALS = {
    "static peak": Rival(Static, 60.0, 60.0, (1.0,)),
    "queue length (KEDA)": Rival(QueueLength, 15.0, 60.0, (20.0, 30.0, 42.0, 60.0)),
    "Ray Serve": Rival(RayServe, 10.0, 60.0, (30.0, 42.0, 50.0, 60.0)),
    "llm-d, one pool": Rival(LlmD, 15.0, 60.0, (0.2, 0.3, 0.4, 0.55), whole=True),
    "llm-d, two pools": Rival(LlmD, 15.0, 60.0, (0.3, 0.4, 0.55, 0.8)),
    "Dynamo planner": Rival(Dynamo, 5.0, 60.0, (0.6, 0.65, 0.7, 0.8)),
    "HeteroScale": Rival(HeteroScale, 15.0, 60.0, (0.5, 0.6, 0.65, 0.7)),
}


def _all(pool: PoolView) -> int:
    return pool.ready + pool.starting


def _waiting(view: ClusterSight) -> int:
    return view.unplaced + sum(view.decode.waiting)


def _p90(latency_s: Iterable[float]) -> float:
    found = sorted(latency_s)
    return percentile(found, 0.9) if found else 0.0
