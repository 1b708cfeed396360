"""What routers hear of a worker's cache and costs: all of it first, then what has changed."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from baton.wire import worker_pb2 as wire
from engine.ports import StepStats
from engine.step_work import StepWork
from tests.fakes.engine import token
from tests.fakes.worker import solo
from tests.wire.served import Router, Served, until


@pytest_asyncio.fixture
async def served() -> AsyncIterator[Served]:
    served = Served()
    await served.start()
    yield served
    await served.stop()


def stats(stored: tuple[int, ...] = (), removed: tuple[int, ...] = ()) -> StepStats:
    return StepStats(0.5, stored=stored, removed=removed)


def heard(frame: wire.StepFrame) -> tuple[int, set[int], set[int], bool]:
    cache = frame.cache
    return cache.number, set(cache.stored), set(cache.removed), cache.full


async def ready(served: Served, router: Router) -> None:
    """One leg of this router runs, so that each step is a frame."""
    await router.send(submit=solo("a"))
    await served.until(legs=1)


async def test_the_first_frame_is_whole_and_each_later_one_has_its_number(served: Served) -> None:
    router = await served.link()
    assert heard(await router.frame()) == (1, set(), set(), True)
    await ready(served, router)
    served.engine.emit(token("a"), stats=stats(stored=(1, 2)))
    served.engine.emit(token("a"))
    served.engine.emit(token("a"), stats=stats(stored=(3,), removed=(1,)))
    found = [heard(await router.news()) for _ in range(3)]
    assert found == [
        (2, {1, 2}, set(), False),
        (2, set(), set(), False),
        (3, {3}, {1}, False),
    ]
    late = await served.link("late")
    assert heard(await late.frame()) == (1, {2, 3}, set(), True)


async def test_a_router_without_frames_of_its_own_hears_soon(served: Served) -> None:
    router = await served.link()
    await router.frame()
    served.clock.advance(1.0)
    served.engine.emit(stats=stats(stored=(7,)))
    # The clock stands: a heartbeat would be the only other reason for a frame.
    assert heard(await router.frame()) == (2, {7}, set(), False)


async def test_changes_come_no_more_often_than_agreed(served: Served) -> None:
    router = await served.link()
    await router.frame()
    for key in range(50):
        served.engine.emit(stats=stats(stored=(key,)))
    frame = heard(await router.frame())
    assert frame == (2, set(range(50)), set(), False)


async def test_a_resync_brings_everything_with_the_next_frame(served: Served) -> None:
    router, other = await served.link("r"), await served.link("other")
    await ready(served, router)
    served.engine.emit(token("a"), stats=stats(stored=(1, 2)))
    await router.news()
    await router.send(resync=wire.Resync())
    link = next(link for link in served.worker._links.values() if link.router_id == "r")
    await until(lambda: link.cache.pending)
    served.engine.emit(token("a"), stats=stats(stored=(3,), removed=(1,)))
    while (found := heard(await router.frame()))[0] < 3:
        pass
    assert found == (3, {2, 3}, set(), True)
    held: set[int] = set()
    while held != {2, 3}:
        _, stored, removed, full = heard(await other.frame())
        held = (set() if full else held) - removed | stored


async def test_costs_come_first_and_when_they_have_changed(served: Served) -> None:
    router = await served.link()
    first = await router.frame()
    assert first.HasField("costs")
    assert len(first.costs.prefill.coefficients) == 3
    assert not (await router.frame()).HasField("costs")
    for new in (100, 200, 300):
        work = StepWork(1.0, new, new * new / 2, seconds=new * 1e-3)
        served.engine.emit(stats=StepStats(0.5, work=work))
    await until(lambda: served.worker.outlook.learning.lessons == 3)
    assert not (await router.frame()).HasField("costs")
    served.clock.advance(1.0)
    while not (frame := await router.frame()).HasField("costs"):
        pass
    assert frame.costs.prefill.samples == 3
    assert frame.costs.prefill.coefficients[1] > 1e-4
    served.clock.advance(1.0)
    assert not (await router.frame()).HasField("costs")
