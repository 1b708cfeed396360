"""The controller over hand-written actors and a clock that moves only when somebody pauses."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from baton.clock import ManualClock
from baton.errors import BatonError, Reason, StartupError, StartupFault
from baton.ids import RouterId
from baton.messages import ClusterView, Role, WorkerState
from cluster.controller import ClusterStatus, Controller
from cluster.plan import Plan, Time
from cluster.ports import Adopted, Placement, RouterProgress, StartProgress
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
        self.views: list[ClusterView] = []

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

    async def kill(self) -> None:
        if self.alive:
            self.book.append(f"{self.name} killed")
        self.alive = False

    def _start(self) -> None: ...

    def _progress(self) -> Any:
        return self.progress or self.ready()

    def _set_view(self, view: ClusterView) -> None:
        self.views.append(view)

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
        self.placements: list[Placement] = []
        self.fail: list[BatonError | StartupError] = []
        self.left: list[Adopted] = []
        self.digest = DIGEST

    async def adopt(self) -> Sequence[Adopted]:
        return self.left

    async def worker(self, placement: Placement) -> FakeHandle:
        self.placements.append(placement)
        if self.fail:
            raise self.fail.pop(0)
        return self._new(placement.worker_id, lambda: StartProgress(ready=self.ready(placement)))

    async def router(self, router_id: RouterId, incarnation: int) -> FakeHandle:
        return self._new(router_id, lambda: RouterProgress(ready_url="http://127.0.0.1:1"))

    def ready(self, placement: Placement) -> Any:
        return info(placement.worker_id, placement.incarnation, placement.role, self.digest)

    def _new(self, name: str, ready: Callable[[], Any]) -> FakeHandle:
        self.handles[name] = FakeHandle(name, self.book, ready)
        return self.handles[name]


class World:
    """A controller, its fakes, and what it showed."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.factory = FakeFactory()
        self.shown: list[ClusterStatus] = []
        self.up = asyncio.Event()
        limits = Limits(start_timeout_s=60.0, backoff_s=1.0, backoff_max_s=8.0)
        plan = Plan(Wanted(1, 1), 1, limits, DIGEST, drain_timeout_s=5.0)
        time = Time(self.clock, self.pause)
        self.controller = Controller(self.factory, plan, self.show, time)

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


@pytest.fixture
async def world():
    world = World()
    yield world
    await world.controller.kill()
    assert not any(handle.alive for handle in world.factory.handles.values())


async def test_it_starts_everything_and_tells_the_router(world: World) -> None:
    await world.serving()
    router = world.factory.handles["router-0"]
    await world.until(lambda: bool(router.views) and len(router.views[-1].ready(Role.DECODE)) == 1)
    assert world.shown[-1].url == "http://127.0.0.1:1"


async def test_a_killed_worker_comes_back_as_its_next_incarnation(world: World) -> None:
    await world.serving()
    world.factory.handles["decode-0"].alive = False
    await world.until(lambda: world.state("decode-0") is WorkerState.GONE)
    assert world.shown[-1].phase == "degraded"
    await world.serving()
    assert world.restarts("decode-0") == 1
    assert world.restarts("prefill-0") == 0


async def test_a_dead_engine_is_replaced_though_its_process_answers(world: World) -> None:
    await world.serving()
    first = world.factory.handles["decode-0"]
    first.progress = StartProgress(alive=False)
    await world.until(lambda: world.restarts("decode-0") == 1)
    assert not first.alive


async def test_a_ready_worker_that_stays_silent_is_replaced(world: World) -> None:
    await world.serving()
    first = world.factory.handles["prefill-0"]
    first.hung = True
    started = world.clock.now()
    await world.until(lambda: world.restarts("prefill-0") == 1)
    assert world.clock.now() - started >= 30.0
    assert not first.alive


async def test_a_killed_router_is_replaced_and_gets_the_view(world: World) -> None:
    await world.serving()
    world.factory.handles["router-0"].alive = False
    await world.until(lambda: world.shown[-1].routers[0].restarts == 1)
    await world.serving()
    await world.until(lambda: bool(world.factory.handles["router-0"].views))


async def test_the_view_is_repeated(world: World) -> None:
    await world.serving()
    views = world.factory.handles["router-0"].views
    count = len(views)
    await world.until(lambda: len(views) >= count + 2)
    assert views[-1].version == views[-2].version


async def test_a_hopeless_start_ends_with_its_error(world: World) -> None:
    world.factory.fail = [StartupError(StartupFault.MODEL_MISSING, "no such folder")]
    with pytest.raises(StartupError, match="no such folder"):
        await world.controller.run()


async def test_a_lost_process_at_the_start_is_tried_again(world: World) -> None:
    world.factory.fail = [BatonError(Reason.WORKER_LOST, "gone")]
    await world.serving()
    assert sum(placement.incarnation == 2 for placement in world.factory.placements) == 1


async def test_a_worker_of_another_configuration_is_not_taken(world: World) -> None:
    world.factory.digest = "ffffffffffffffff"
    with pytest.raises(StartupError, match="another configuration"):
        await world.controller.run()


async def test_adopted_workers_are_kept_and_surplus_ones_stopped(world: World) -> None:
    kept = Placement("prefill-0", Role.PREFILL, 3, 0)
    surplus = Placement("decode-4", Role.DECODE, 2, 1)
    for placement in (kept, surplus):
        handle = await world.factory.worker(placement)
        world.factory.left.append(Adopted(placement, handle))
    world.factory.placements.clear()
    run = asyncio.ensure_future(world.controller.run())
    await world.up.wait()
    world.controller.ask_to_stop()
    await run
    assert [p.worker_id for p in world.factory.placements] == ["decode-0"]
    assert "decode-4 stop" in world.factory.book
    assert "prefill-0 start" not in world.factory.book


async def test_it_stops_in_order_and_leaves_nothing(world: World) -> None:
    run = asyncio.ensure_future(world.controller.run())
    await world.up.wait()
    world.factory.book.clear()
    world.controller.ask_to_stop()
    await run
    book = world.factory.book
    order = [book.index(line) for line in ("router-0 drain", "decode-0 drain", "decode-0 stop",
                                           "decode-0 killed", "router-0 stop")]  # fmt: skip
    assert order == sorted(order)
    assert [status.phase for status in world.shown][-3:].count("stopped") == 1
    assert world.shown[-1].phase == "stopped"


async def test_what_does_not_drain_is_stopped_all_the_same(world: World) -> None:
    run = asyncio.ensure_future(world.controller.run())
    await world.up.wait()
    for handle in world.factory.handles.values():
        handle.undrained_polls = 10**9
    world.controller.ask_to_stop()
    await run
    assert not any(handle.alive for handle in world.factory.handles.values())


async def test_stopping_while_it_starts(world: World) -> None:
    for _ in range(3):
        await world.controller.step()
    world.controller.ask_to_stop()
    await world.controller.run()
    assert world.shown[-1].phase == "stopped"
