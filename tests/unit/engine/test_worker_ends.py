"""How legs end before their time: aborts, lost routers, dead engines, drains."""

from __future__ import annotations

import asyncio

import pytest

import engine.link as under_test
from baton.errors import BatonError, Reason
from engine.ports import StepStats
from tests.fakes.engine import last, token
from tests.fakes.worker import House, decode, prefill, solo
from tests.unit.engine.hearing import ends, everything, is_empty, news, step

# --- aborts and links -----------------------------------------------------------------------------


async def test_aborts_are_idempotent_and_reach_only_the_links_own_legs() -> None:
    house = House()
    mine, other = house.worker.open_link("r1"), house.worker.open_link("r2")
    await house.worker.submit(mine, solo("a"))
    await house.worker.submit(other, solo("b"))
    for _ in range(2):
        await house.worker.abort(mine, ["a", "b", "never"])
    assert house.engine.aborted == ["a"]
    assert house.worker.legs == 1
    assert house.worker.tally.aborted == 1
    step(house, token("a", 1))
    assert news(mine) == []


async def test_a_repeated_id_within_one_abort_is_one_abort() -> None:
    house = House()
    link = house.worker.open_link("r")
    await house.worker.submit(link, solo("a"))
    await house.worker.abort(link, ["a", "a"])
    assert house.engine.aborted == ["a"]
    assert house.worker.tally.aborted == 1


async def test_a_closed_link_takes_its_legs_along() -> None:
    house = House()
    mine, other = house.worker.open_link("r1"), house.worker.open_link("r2")
    for leg in ("a", "b"):
        await house.worker.submit(mine, solo(leg))
    await house.worker.submit(other, solo("c"))
    await house.worker.close_link(mine)
    assert house.engine.aborted == ["a", "b"]
    assert (house.worker.legs, house.worker.links) == (1, 1)


async def test_a_slow_reader_is_cut_and_hears_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "FRAMES_MAX", 3)
    house = House()
    link = house.worker.open_link("r")
    for _ in range(9):
        house.worker.heartbeat()
    frames = everything(link)
    assert len(frames) == 4
    assert frames[-1] is None
    assert link.broken
    await house.worker.submit(link, solo("late"))
    assert everything(link) == []


# --- failure --------------------------------------------------------------------------------------


async def test_a_dead_engine_ends_every_leg_once_and_takes_no_more() -> None:
    house = House()
    links = [house.worker.open_link(name) for name in ("r1", "r2")]
    for index, submit in enumerate((solo("a"), decode("b"), prefill("c"))):
        await house.worker.submit(links[index % 2], submit)
    step(house, token("a"))
    house.engine.die()
    await house.worker.run()
    house.worker.fail(BatonError(Reason.ENGINE_FAILED, "again"))
    lost = Reason.WORKER_LOST.value
    assert ends(links[0]) == [("a", lost), ("c", lost)]
    assert ends(links[1]) == [("b", lost)]
    assert [e.reason for e in house.failures] == [Reason.ENGINE_FAILED]
    assert is_empty(house)
    await house.worker.submit(links[0], solo("d"))
    assert ends(links[0]) == [("d", Reason.ENGINE_FAILED.value)]


async def test_run_passes_steps_on() -> None:
    house = House()
    link = house.worker.open_link("r")
    await house.worker.submit(link, solo("a"))
    house.engine.emit(token("a", 1), stats=StepStats(0.5))
    house.engine.emit(last("a", 2))
    house.engine.die()
    await house.worker.run()
    assert [list(f.outputs) for f in news(link)] == [[b"a=1"], [b"a=2"]]


async def test_silence_with_work_is_a_failure_and_without_work_is_not() -> None:
    house = House()
    link = house.worker.open_link("r")
    house.clock.advance(1000)
    house.worker.heartbeat()
    assert house.failures == []
    await house.worker.submit(link, solo("a"))
    house.clock.advance(60)
    house.worker.heartbeat()
    assert house.failures == []
    house.clock.advance(1)
    house.worker.heartbeat()
    assert [e.reason for e in house.failures] == [Reason.ENGINE_FAILED]
    assert ends(link) == [("a", Reason.WORKER_LOST.value)]


async def test_work_that_is_withdrawn_does_not_hide_a_stuck_engine() -> None:
    house = House()
    link = house.worker.open_link("r")
    for leg in "abc":
        await house.worker.submit(link, solo(leg))
        house.clock.advance(25)
        house.worker.heartbeat()
        await house.worker.abort(link, [leg])
        house.clock.advance(1000)
    assert [e.reason for e in house.failures] == [Reason.ENGINE_FAILED]


async def test_nothing_is_aborted_in_a_dead_engine() -> None:
    house = House()
    link = house.worker.open_link("r")
    await house.worker.submit(link, solo("a"))
    house.worker.fail(BatonError(Reason.ENGINE_FAILED, "dead"))
    await house.worker.close_link(link)
    assert house.engine.aborted == []


# --- drain ----------------------------------------------------------------------------------------


async def test_a_drain_waits_for_what_runs() -> None:
    house = House()
    link = house.worker.open_link("r")
    await house.worker.submit(link, solo("a"))
    async with asyncio.TaskGroup() as group:
        drain = group.create_task(house.worker.drain(None))
        await asyncio.sleep(0)
        assert not drain.done()
        assert house.worker.load().draining
        step(house, last("a"))
    assert drain.result() == 0


async def test_a_drain_that_runs_out_of_time_cuts_off_the_rest() -> None:
    house = House()
    link = house.worker.open_link("r")
    for leg in ("a", "b"):
        await house.worker.submit(link, solo(leg))
    assert await house.worker.drain(0.001) == 2
    assert ends(link) == [("a", Reason.DRAINING.value), ("b", Reason.DRAINING.value)]
    assert house.engine.aborted == ["a", "b"]
    assert is_empty(house)


async def test_a_leg_that_ends_while_others_are_cut_off_ends_once() -> None:
    house = House()
    link = house.worker.open_link("r")
    for leg in ("a", "b"):
        await house.worker.submit(link, solo(leg))

    async def abort(leg_ids: object) -> None:
        step(house, last("b", 2))

    house.engine.abort = abort  # type: ignore[method-assign]
    assert await house.worker.drain(0) == 1
    told = news(link)
    assert [list(f.outputs) for f in told] == [[], [b"b=2"]]
    assert [e.leg_id for f in told for e in f.ended] == ["a"]


async def test_an_idle_worker_is_drained_at_once() -> None:
    assert await House().worker.drain(None) == 0
