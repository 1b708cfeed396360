"""An upgrade: old workers serve old routers, new ones new routers, and the old are drained."""

from __future__ import annotations

import pytest

from baton.ids import RouterId, WorkerId
from baton.messages import Role, WorkerState
from cluster.membership import Table, WorkerPlaced, WorkerReady, apply
from cluster.ports import Adopted, AdoptedRouter, Placement, RouterProgress, StartProgress
from cluster.supervision import Wanted
from cluster.upgrading import outdated, serves_by_the_old
from tests.unit.cluster.samples import DIGEST, info
from tests.unit.cluster.world import FakeHandle, World

OLD = "of the old version"
POOLS = Wanted(2, 2)


def table(**versions: str | None) -> Table:
    """Ready workers by version; None = it starts."""
    found = Table()
    for key, version in versions.items():
        name = WorkerId(key.replace("_", "-"))
        role = Role(name.partition("-")[0])
        found = apply(found, WorkerPlaced(name, role, 1, 0, 0.0))
        if version is not None:
            found = apply(found, WorkerReady(info(name, 1, role, version), 0.0))
    return found


def due(found: Table, wanted: Wanted = POOLS, *, kept: bool = True) -> set[str]:
    return {worker_id for worker_id, _ in outdated(found, wanted, DIGEST, kept=kept)}


def test_of_each_pool_one_goes_and_the_next_once_it_is_back() -> None:
    old = table(prefill_0=OLD, prefill_1=OLD, decode_0=OLD, decode_1=OLD)
    assert due(old) == {"prefill-1", "decode-1"}
    under_way = table(prefill_0=OLD, prefill_1=None, decode_0=OLD, decode_1=DIGEST)
    assert due(under_way, kept=False) == {"decode-0"}


def test_the_last_of_a_pool_stays_for_old_routers_unless_there_is_no_other_place() -> None:
    half = table(prefill_0=OLD, prefill_1=DIGEST, decode_0=OLD, decode_1=DIGEST)
    assert due(half) == set()
    assert due(half, kept=False) == {"prefill-0", "decode-0"}
    assert due(table(prefill_0=OLD, decode_0=OLD), Wanted(1, 1)) == {"prefill-0", "decode-0"}


def test_of_one_version_nobody_goes() -> None:
    assert due(table(prefill_0=DIGEST, decode_0=DIGEST), Wanted(1, 1), kept=False) == set()


@pytest.mark.parametrize(("decode_1", "by_the_old"), [(OLD, True), (None, True), (DIGEST, False)])
def test_the_new_serve_once_there_is_one_of_each_role(
    decode_1: str | None, *, by_the_old: bool
) -> None:
    found = table(prefill_0=OLD, prefill_1=DIGEST, decode_0=OLD, decode_1=decode_1)
    assert serves_by_the_old(found, POOLS, DIGEST) is by_the_old


def test_with_nobody_left_the_old_serve_no_more() -> None:
    assert not serves_by_the_old(table(prefill_0=None, decode_0=None), Wanted(1, 1), DIGEST)


# --- the whole of it ------------------------------------------------------------------------------


async def _left_behind(world: World) -> FakeHandle:
    """Two pools and a router of the old version run; their controller is gone."""
    for number, role in ((n, role) for role in Role for n in range(2)):
        name = WorkerId(f"{role.value}-{number}")
        placement = Placement(name, role, 1, number)
        handle = await world.factory.worker(placement)
        handle.progress = StartProgress(ready=info(name, 1, role, OLD), warmed="")
        world.factory.left.append(Adopted(placement, handle))
    router = await world.factory.router(RouterId("router-0"), 1)
    router.progress = RouterProgress("http://127.0.0.1:1", view_version=9, digest="old")
    world.factory.left.append(AdoptedRouter(RouterId("router-0"), 1, router))
    world.factory.placements.clear()
    return router


@pytest.fixture
def world() -> World:
    return World(wanted=POOLS)


async def test_nobody_is_without_a_router_that_knows_workers_of_both_roles(world: World) -> None:
    router = await _left_behind(world)
    first = dict(world.factory.handles)
    await world.controller._adopt()
    # However long the new ones take, nobody follows the old router and its workers stay.
    world.factory.warmed = None
    await world.until(lambda: len(_in(world, WorkerState.WARMING)) == 2)
    for _ in range(20):
        await world.controller.step()
        await world.controller.wait(0.01)
    assert _in(world, WorkerState.WARMING) == ["prefill-1", "decode-1"]
    assert _in(world, WorkerState.READY) == ["prefill-0", "decode-0"]
    assert sum(handle.name == "router-0" for handle in world.factory.made) == 1
    world.factory.warmed = ""

    def whole() -> bool:
        views = _served(world, router)
        assert all(view == {Role.PREFILL, Role.DECODE} for view in views), views
        rows = world.controller.crew.table.rows
        return all(row.info is not None and row.info.config_digest == DIGEST for row in rows)

    await world.until(whole)
    assert not router.alive
    # All were drained, none was given up.
    for name in ("prefill-0", "prefill-1", "decode-0", "decode-1"):
        assert f"{name} drain" in world.factory.book
        assert first[name] is not world.factory.handles[name]
    assert not any(row.died for row in world.controller.crew.table.rows)


def _in(world: World, state: WorkerState) -> list[str]:
    return [row.worker_id for row in world.controller.crew.table.rows if row.state is state]


def _served(world: World, old: FakeHandle) -> list[set[Role]]:
    """The roles that the router which takes connections has workers of."""
    row = next(row for row in world.controller.fronts.rows if not row.replaced)
    version = OLD if world.controller.fronts.handle(row.router_id) is old else DIGEST
    ready = [r for r in world.controller.crew.table.rows if r.state is WorkerState.READY]
    return [{r.role for r in ready if r.info is not None and r.info.config_digest == version}]
