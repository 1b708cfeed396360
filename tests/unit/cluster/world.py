"""A controller over hand-written actors and a clock that moves only when somebody pauses."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from baton.clock import ManualClock
from baton.errors import BatonError, Reason, StartupError
from baton.ids import RouterId
from baton.messages import ClusterView, WorkerState
from baton.signals import RouterSignals
from cluster.controller import ClusterStatus, Controller
from cluster.plan import Plan, Time
from cluster.ports import (
    Adopted,
    AdoptedRouter,
    Placement,
    RouterProgress,
    RouterRow,
    ScalingRow,
    StartProgress,
    Waiting,
)
from cluster.processes import Process
from cluster.scaling.rules import Rules
from cluster.supervision import Limits, Wanted
from tests.unit.cluster.samples import DIGEST, info


class FakeHandle:
    """A process that is up at once and records what it is asked."""

    def __init__(self, name: str, book: list[str], ready: Callable[[], Any]) -> None:
        self.name, self.book, self.ready = name, book, ready
        self.pid = 4711
        self.alive = True
        self.hung = False
        self.progress: Any = None
        self.undrained_polls = 1
        self.killed: tuple[Process, ...] = ()
        self.certain = True
        self.mourned: list[tuple[str, ...]] = []
        self.met: list[tuple[Any, ...]] = []
        self.views: list[ClusterView] = []
        self.doors: list[str] = []
        self.connected = 0
        self.measured: RouterSignals | None = None
        self.scaling: ScalingRow | None = None

    async def call(self, method: str, *args: object, timeout_s: float) -> Any:
        await asyncio.sleep(0)
        if method != "progress":
            self.book.append(f"{self.name} {method}")
        if not self.alive:
            raise BatonError(Reason.WORKER_LOST, f"{self.name} is gone")
        if self.hung:
            raise BatonError(Reason.DEADLINE_EXCEEDED, f"{self.name} did not answer")
        return getattr(self, f"_{method}")(*args)

    async def leave(self) -> None:
        await self.kill()

    async def kill(self, *engine: Process) -> bool:
        if self.alive:
            self.book.append(f"{self.name} killed")
        self.alive = False
        self.killed += engine
        return self.certain

    def _start(self, *door: str) -> None:
        self.doors += door

    def _progress(self) -> Any:
        return self.progress or self.ready()

    def _warm(self, *args: Any) -> None:
        self.met.append(args)

    def _peers_dead(self, agents: tuple[str, ...]) -> None:
        self.mourned.append(agents)

    def _set_view(
        self, view: ClusterView, routers: Sequence[RouterRow], scaling: ScalingRow
    ) -> None:
        self.views.append(view)
        self.scaling = scaling
        self.routers = routers

    def _signals(self) -> RouterSignals | None:
        return self.measured

    def _offer(self) -> str:
        return f"door of {self.pid}"

    def _withdraw(self) -> None: ...

    def _clients(self) -> int:
        self.connected -= 1
        return max(0, self.connected)

    def _drain(self, timeout_s: float) -> None: ...

    def _drained(self) -> bool:
        self.undrained_polls -= 1
        return self.undrained_polls < 0

    def _stop(self, timeout_s: float) -> None: ...


class FakeFactory:
    """Places at once; `fail` makes the next placements raise."""

    def __init__(self) -> None:
        self.book: list[str] = []
        self.handles: dict[str, FakeHandle] = {}
        self.made: list[FakeHandle] = []
        self.placements: list[Placement] = []
        self.fail: list[BatonError | StartupError] = []
        self.fail_routers: list[BatonError | StartupError] = []
        self.left: list[Adopted | AdoptedRouter] = []
        self.digest = DIGEST
        self.warmed: str | None = ""
        self.waits: Waiting = {}
        self.room = asyncio.Event()
        self.engine_ranks: tuple[tuple[int, int], ...] = ()

    def waiting(self) -> Waiting:
        return self.waits

    async def adopt(self) -> Sequence[Adopted | AdoptedRouter]:
        return self.left

    async def worker(self, placement: Placement) -> FakeHandle:
        self.placements.append(placement)
        if (placement.worker_id, placement.incarnation) in self.waits:
            await self.room.wait()
        if self.fail:
            raise self.fail.pop(0)
        return self._new(placement.worker_id, lambda: self._progress(placement))

    async def router(self, router_id: RouterId, incarnation: int) -> FakeHandle:
        if self.fail_routers:
            raise self.fail_routers.pop(0)
        return self._new(router_id, lambda: RouterProgress(ready_url="http://127.0.0.1:1"))

    def _progress(self, placement: Placement) -> StartProgress:
        return StartProgress(ready=self.ready(placement), warmed=self.warmed)

    def ready(self, placement: Placement) -> Any:
        found = info(placement.worker_id, placement.incarnation, placement.role, self.digest)
        return replace(found, engine_ranks=self.engine_ranks)

    def _new(self, name: str, ready: Callable[[], Any]) -> FakeHandle:
        self.handles[name] = FakeHandle(name, self.book, ready)
        self.made.append(self.handles[name])
        return self.handles[name]


class World:
    """A controller, its fakes, and what it showed."""

    def __init__(
        self, rules: Rules | None = None, keeper: Any = None, wanted: Wanted | None = None
    ) -> None:
        self.clock = ManualClock()
        self.keeper = keeper
        self.factory = FakeFactory()
        self.shown: list[ClusterStatus] = []
        self.up = asyncio.Event()
        limits = Limits(start_timeout_s=60.0, backoff_s=1.0, backoff_max_s=8.0)
        # Each pause of a worker's poll moves the clock a second on: views must not be all that the
        # router has time for.
        plan = Plan(
            wanted or Wanted(1, 1), 1, limits, DIGEST, drain_timeout_s=5.0, view_repeat_s=20.0
        )
        self.plan = replace(plan, rules=rules or Rules())
        self.time = Time(self.clock, self.pause)
        self.controller = Controller(self.factory, self.plan, self.show, self.time, keeper)

    def show(self, status: ClusterStatus) -> None:
        self.shown.append(status)
        if status.phase == "serving":
            self.up.set()

    async def pause(self, seconds: float) -> None:
        self.clock.advance(seconds)
        await asyncio.sleep(0)

    async def until(self, done: Callable[[], bool]) -> None:
        for _ in range(500):
            await self.controller.step()
            if done():
                return
            await self.controller.wait(0.01)
        raise AssertionError(self.controller.crew.table)

    async def serving(self) -> None:
        await self.until(lambda: self.shown[-1].phase == "serving")

    def state(self, worker_id: str) -> WorkerState:
        return next(m.state for m in self.shown[-1].view.members if m.worker_id == worker_id)

    def restarts(self, worker_id: str) -> int:
        return next(m.restarts for m in self.shown[-1].view.members if m.worker_id == worker_id)
