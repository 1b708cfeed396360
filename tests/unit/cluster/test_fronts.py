"""Routers are replaced without a gap: the successor first, then the old one goes."""

import pytest

from baton.errors import BatonError
from baton.ids import RouterId, WorkerId
from baton.messages import Role, WorkerState
from cluster.controller import Controller
from cluster.ports import RouterProgress
from tests.unit.cluster.world import FakeHandle, World

R = RouterId("router-0")


def routers(world: World) -> list[FakeHandle]:
    return [handle for handle in world.factory.made if handle.name == R]


def rows(world: World) -> list[tuple[WorkerState, int, bool]]:
    return [(r.state, r.restarts, r.replaced) for r in world.controller.fronts.rows]


async def test_the_successor_gets_the_door_and_then_the_old_one_withdraws(world: World) -> None:
    await world.serving()
    (old,) = routers(world)
    old.connected = 4
    world.factory.book.clear()
    assert world.controller.ask_to_drain(R) == 1
    assert world.controller.ask_to_drain(R) == 1
    await world.until(lambda: len(rows(world)) == 2)
    _, new = routers(world)
    assert rows(world) == [(WorkerState.DRAINING, 0, True), (WorkerState.READY, 1, False)]
    assert world.controller.fronts.complete
    assert world.controller.fronts.handle(R) is new
    assert (old.doors, new.doors) == ([""], ["door of 4711"])
    await world.until(lambda: len(rows(world)) == 1)
    assert not old.alive
    book = world.factory.book
    lines = ("offer", "start", "withdraw", "clients", "stop", "killed")
    order = [book.index(f"router-0 {what}") for what in lines]
    assert order == sorted(order)
    assert "router-0 drain" not in book
    assert len(routers(world)) == 2


async def test_until_then_the_old_one_hears_of_the_cluster(world: World) -> None:
    await world.serving()
    (old,) = routers(world)
    old.connected = 10**9
    world.controller.ask_to_drain(R)
    await world.until(lambda: len(rows(world)) == 2)
    seen = len(old.views)
    world.factory.handles["decode-0"].alive = False
    await world.until(lambda: len(old.views) > seen)
    # It has its time, and no more.
    await world.until(lambda: not old.alive)


async def test_a_signal_has_a_router_followed(world: World) -> None:
    await world.serving()
    (old,) = routers(world)
    old.progress = RouterProgress("http://127.0.0.1:1", leaving=True)
    await world.until(lambda: world.shown[-1].routers[0].restarts == 1)
    assert not old.alive
    assert len(routers(world)) == 2


async def test_a_successor_that_fails_is_tried_again_and_the_old_one_stays(world: World) -> None:
    await world.serving()
    (old,) = routers(world)
    world.factory.fail_routers = [BatonError.from_wire({"reason": "worker_lost", "message": "x"})]
    world.controller.ask_to_drain(R)
    await world.until(lambda: not world.factory.fail_routers)
    assert rows(world) == [(WorkerState.READY, 0, False)]
    await world.until(lambda: not old.alive)
    assert rows(world) == [(WorkerState.READY, 2, False)]


async def test_an_old_one_that_dies_early_is_not_started_again(world: World) -> None:
    await world.serving()
    (old,) = routers(world)
    world.controller.ask_to_drain(R)
    old.alive = False
    await world.until(lambda: rows(world) == [(WorkerState.READY, 1, False)])
    assert len(routers(world)) == 2


async def test_who_is_not_there_cannot_be_followed(world: World) -> None:
    await world.serving()
    fronts = world.controller.fronts
    with pytest.raises(BatonError, match="no router router-7"):
        fronts.ask_to_replace(RouterId("router-7"))
    world.factory.handles[R].alive = False
    await world.until(lambda: world.shown[-1].routers[0].state is WorkerState.GONE)
    with pytest.raises(BatonError, match="gone, not ready"):
        fronts.ask_to_replace(R)


async def test_stopping_ends_old_ones_too(world: World) -> None:
    await world.serving()
    (old,) = routers(world)
    old.connected = 10**9
    world.controller.ask_to_drain(R)
    await world.until(lambda: len(rows(world)) == 2)
    world.controller.ask_to_stop()
    await world.controller.run()
    assert not any(handle.alive for handle in world.factory.made)


async def test_a_router_is_told_of_a_stand_in_before_the_worker_drains(world: World) -> None:
    await world.serving()
    router = world.factory.handles[R]
    world.controller.ask_to_drain("decode-0")
    await world.until(lambda: "decode-0 drain" in world.factory.book)
    (prefill,) = (m for m in router.views[-1].members if m.worker_id == "prefill-0")
    assert prefill.info is not None
    assert prefill.info.role is Role.DECODE
    book = world.factory.book
    last_told = max(n for n, line in enumerate(book) if line == "router-0 set_view")
    assert last_told < book.index("decode-0 drain")
    await world.until(lambda: world.restarts("decode-0") == 1)
    await world.serving()
    await world.until(lambda: router.views[-1].members[0].info.role is Role.PREFILL)


async def test_a_signal_has_a_worker_drained(world: World) -> None:
    await world.serving()
    first = world.factory.handles["decode-0"]
    first.progress = first.ready()
    first.progress = type(first.progress)(ready=first.progress.ready, leaving=True)
    await world.until(lambda: world.restarts("decode-0") == 1)
    assert not first.alive
    assert "decode-0 drain" in world.factory.book
    await world.serving()
    assert isinstance(world.controller, Controller)
    with pytest.raises(BatonError, match="no worker nobody"):
        world.controller.ask_to_drain(WorkerId("nobody"))


async def test_where_a_router_is_gone_there_is_nothing_to_scrape(world: World) -> None:
    await world.serving()
    (front,) = world.controller.fronts._fronts
    front.metrics_address = "h:1"
    await world.controller.fronts._kill(front)
    assert [row.metrics_address for row in world.controller.fronts.rows] == [""]
