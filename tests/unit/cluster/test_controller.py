"""The controller over hand-written actors and a clock that moves only when somebody pauses."""

import asyncio

import pytest

from baton.errors import BatonError, Reason, StartupError, StartupFault
from baton.ids import WorkerId
from baton.messages import Role, WorkerState
from cluster.ports import Adopted, Placement, StartProgress
from tests.unit.cluster.world import World


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
    # It was heard last at most one health interval before.
    assert world.clock.now() - started >= 30.0 - 1.0
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


async def test_a_worker_without_a_machine_stays_starting_and_says_why(world: World) -> None:
    why = "waits for 4 GPU on one node"
    world.factory.waits = {(WorkerId("decode-0"), 1): why}

    def told() -> str:
        return next(m.detail for m in world.shown[-1].view.members if m.worker_id == "decode-0")

    await world.until(lambda: bool(world.shown) and told() == why)
    # Far longer than a start may take.
    world.clock.advance(10_000)
    await world.until(lambda: world.state("prefill-0") is WorkerState.READY)
    assert world.state("decode-0") is WorkerState.STARTING
    assert told() == why
    world.factory.waits = {}
    await world.until(lambda: told() == "starting its process")
    world.factory.room.set()
    await world.serving()
    assert world.restarts("decode-0") == 0


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


async def test_a_cluster_that_was_taken_over_is_not_starting(world: World) -> None:
    """It serves, with one worker of two."""
    kept = Placement("prefill-0", Role.PREFILL, 3, 0)
    world.factory.left.append(Adopted(kept, await world.factory.worker(kept)))
    run = asyncio.ensure_future(world.controller.run())
    await world.up.wait()
    world.controller.ask_to_stop()
    await run
    assert "starting" not in {status.phase for status in world.shown}
    assert "degraded" in {status.phase for status in world.shown}


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
