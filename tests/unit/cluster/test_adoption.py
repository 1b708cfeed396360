"""A controller that starts again finds its cluster as it was left, and nobody notices."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from baton.errors import StartupError, StartupFault
from baton.ids import RouterId, WorkerId
from baton.messages import Role, WorkerState
from cluster.ports import Adopted, AdoptedRouter, Placement, RouterProgress, StartProgress
from cluster.scaling.memory import Memory
from cluster.supervision import Wanted
from tests.unit.cluster.world import FakeHandle, World

R = RouterId("router-0")
URL = "http://127.0.0.1:1"
SERVES = RouterProgress(ready_url=URL, view_version=70)
WORKERS = (
    Placement(WorkerId("prefill-0"), Role.PREFILL, 3, 0),
    Placement(WorkerId("decode-0"), Role.DECODE, 1, 1),
)


@pytest.fixture
async def left() -> World:
    """Both workers run; nobody looks after them."""
    world = World()
    for placement in WORKERS:
        handle = await world.factory.worker(placement)
        world.factory.left.append(Adopted(placement, handle))
    world.factory.placements.clear()
    return world


async def _leave_router(world: World, incarnation: int, progress: RouterProgress) -> FakeHandle:
    handle = await world.factory.router(R, incarnation)
    handle.progress = progress
    world.factory.left.append(AdoptedRouter(R, incarnation, handle))
    return handle


async def _adopt(world: World) -> None:
    await world.controller._adopt()
    await world.serving()


def _routers(world: World) -> list[tuple[int, bool, bool]]:
    return [(r.restarts, r.replaced, r.url == URL) for r in world.controller.fronts.rows]


async def test_who_serves_goes_on_and_never_hears_of_fewer_workers(left: World) -> None:
    router = await _leave_router(left, 4, SERVES)
    await _adopt(left)
    assert left.factory.placements == []
    assert _routers(left) == [(3, False, True)]
    assert not {"start", "stop", "withdraw", "killed"} & {b.split()[1] for b in left.factory.book}
    # Routers ignore what is older than what they know.
    await left.until(lambda: bool(router.views))
    assert all(view.version > 70 for view in router.views)
    assert all(m.state is WorkerState.READY for view in router.views for m in view.members)


@pytest.mark.parametrize(
    "progress", [replace(SERVES, digest="of other settings"), replace(SERVES, leaving=True)]
)
async def test_who_cannot_stay_is_succeeded(left: World, progress: RouterProgress) -> None:
    old = await _leave_router(left, 1, progress)
    await _adopt(left)
    await left.until(lambda: not old.alive)
    assert _routers(left) == [(1, False, True)]
    assert left.factory.book.index("router-0 offer") < left.factory.book.index("router-0 withdraw")


async def test_a_successor_under_way_goes_on_as_one(left: World) -> None:
    old = await _leave_router(left, 1, SERVES)
    new = await _leave_router(left, 2, RouterProgress())
    await left.controller._adopt()
    assert _routers(left) == [(0, False, True)]
    new.progress = replace(SERVES, view_version=71)
    await left.until(lambda: not old.alive)
    assert _routers(left) == [(1, False, True)]
    assert left.controller.fronts.handle(R) is new


async def test_who_is_gone_or_not_wanted_is_no_trouble(left: World) -> None:
    dead = await _leave_router(left, 1, SERVES)
    dead.alive = False
    stranger = await left.factory.router(RouterId("router-7"), 1)
    left.factory.left.append(AdoptedRouter(RouterId("router-7"), 1, stranger))
    await _adopt(left)
    assert not stranger.alive
    assert _routers(left) == [(1, False, True)]


async def test_who_was_placed_but_never_told_to_start_is_told(left: World) -> None:
    worker = left.factory.handles["decode-0"]
    worker.progress = StartProgress()
    router = await _leave_router(left, 1, RouterProgress())
    await left.controller._adopt()
    assert {"decode-0 start", "router-0 start"} <= set(left.factory.book)
    assert "prefill-0 start" not in left.factory.book
    worker.progress, router.progress = None, SERVES
    await left.serving()


async def test_who_serves_is_not_ended_because_another_one_cannot_be_started() -> None:
    world = World(wanted=Wanted(1, 2))
    for placement in WORKERS:
        handle = await world.factory.worker(placement)
        world.factory.left.append(Adopted(placement, handle))
    router = await _leave_router(world, 1, SERVES)
    world.factory.fail = [StartupError(StartupFault.SETTINGS_INVALID, "not so")] * 3
    world.factory.fail_routers = []
    await world.controller._adopt()
    await world.until(lambda: not world.factory.fail)
    assert router.alive
    assert all(world.factory.handles[name].alive for name in ("prefill-0", "decode-0"))


async def test_a_cluster_at_zero_stays_as_it_was_wanted() -> None:
    wanted = {"prefill": 0, "decode": 3, "roles": {}}
    kept = json.dumps(
        {
            "mode": "manual",
            "wanted": wanted,
            "memory": Memory().as_json(),
            "startup_s": 1.0,
            "lately": [],
        }
    )
    world = World(keeper=SimpleNamespace(load=lambda: kept, save=lambda _text: None))
    await _leave_router(world, 1, SERVES)
    await world.controller._adopt()
    row = world.controller.scaler.row
    assert (row.prefill, row.decode) == (0, 3)
