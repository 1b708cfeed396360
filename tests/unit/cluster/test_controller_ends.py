"""The controller ends whom a peer accuses, and spreads the word once the end is certain."""

from dataclasses import replace

import pytest

from baton.errors import BatonError
from baton.ids import WorkerId
from cluster.processes import Process
from tests.unit.cluster.samples import agent
from tests.unit.cluster.world import World


def accuse(world: World, accuser: str, accused: str, incarnation: int) -> None:
    handle = world.factory.handles[accuser]
    handle.progress = replace(handle.ready(), accused=(agent(accused, incarnation),))


async def test_an_accused_worker_is_killed_with_its_engine_and_replaced(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.serving()
    first = world.factory.handles["prefill-0"]
    accuse(world, "decode-0", "prefill-0", 1)
    await world.until(lambda: world.restarts("prefill-0") == 1)
    assert not first.alive
    # The engine is named itself: stopped, it would outlive its worker.
    assert first.killed == (Process(101, 7),)
    assert "gave decode-0 no proof" in caplog.text
    await world.serving()


async def test_the_processes_of_its_ranks_are_named_with_the_engine(world: World) -> None:
    world.factory.engine_ranks = ((102, 8), (103, 9))
    await world.serving()
    first = world.factory.handles["prefill-0"]
    accuse(world, "decode-0", "prefill-0", 1)
    await world.until(lambda: world.restarts("prefill-0") == 1)
    assert first.killed == (Process(101, 7), Process(102, 8), Process(103, 9))


async def test_the_same_accusation_ends_nobody_twice(world: World) -> None:
    await world.serving()
    accuse(world, "decode-0", "prefill-0", 1)
    await world.until(lambda: world.restarts("prefill-0") == 1)
    await world.serving()
    for _ in range(50):
        await world.controller.step()
        await world.controller.wait(0.01)
    assert world.restarts("prefill-0") == 1


async def test_who_accuses_hears_of_the_death_until_it_is_content(world: World) -> None:
    await world.serving()
    decode = world.factory.handles["decode-0"]
    accuse(world, "decode-0", "prefill-0", 1)
    await world.until(lambda: len(decode.mourned) >= 2)
    assert set(decode.mourned) == {(agent("prefill-0", 1),)}
    decode.progress = decode.ready()
    count = len(decode.mourned) + 1
    await world.until(lambda: world.clock.now() > 100.0)
    assert len(decode.mourned) <= count


async def test_all_hear_of_the_end_of_an_engine_once_it_is_certain(world: World) -> None:
    await world.serving()
    decode = world.factory.handles["decode-0"]
    world.factory.handles["prefill-0"].alive = False
    await world.until(lambda: bool(decode.mourned))
    assert decode.mourned == [(agent("prefill-0", 1),)]


async def test_nobody_hears_of_an_end_that_is_not_certain(world: World) -> None:
    await world.serving()
    decode, prefill = world.factory.handles["decode-0"], world.factory.handles["prefill-0"]
    prefill.certain = False
    accuse(world, "decode-0", "prefill-0", 1)
    await world.until(lambda: world.restarts("prefill-0") == 1)
    await world.serving()
    assert decode.mourned == []
    # Its machine can be reached again.
    prefill.certain = True
    await world.until(lambda: bool(decode.mourned))
    assert prefill.killed == (Process(101, 7),) * (len(prefill.killed))
    assert len(prefill.killed) >= 2


async def test_a_worn_out_worker_is_drained_and_started_anew(world: World) -> None:
    await world.serving()
    first = world.factory.handles["decode-0"]
    first.progress = replace(first.ready(), worn_out="12 of its 100 KV blocks are quarantined")
    await world.until(lambda: world.restarts("decode-0") == 1)
    book = world.factory.book
    order = [book.index(f"decode-0 {what}") for what in ("drain", "stop", "killed")]
    assert order == sorted(order)
    await world.serving()
    assert world.restarts("decode-0") == 1


async def test_an_operator_has_a_worker_drained_and_started_anew(world: World) -> None:
    crew = world.controller.crew
    with pytest.raises(BatonError, match="no worker nobody"):
        crew.ask_to_drain(WorkerId("nobody"))
    await world.serving()
    first = world.factory.handles["decode-0"]
    assert [crew.ask_to_drain(WorkerId("decode-0")) for _ in range(2)] == [1, 1]
    await world.until(lambda: world.restarts("decode-0") == 1)
    assert not first.alive
    await world.serving()
    for _ in range(20):
        await world.controller.step()
        await world.controller.wait(0.01)
    assert world.restarts("decode-0") == 1
