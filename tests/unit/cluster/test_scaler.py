"""The law decides on what routers say, the crew follows, and a new controller goes on."""

from __future__ import annotations

import json

import pytest

from baton.errors import BatonError
from baton.ids import WorkerId
from baton.messages import ClusterView, Role, WorkerState
from baton.settings import ScalingSettings
from baton.signals import PoolSignals, RouterSignals
from cluster import scaler as scaler_module
from cluster.scaler import Scaler
from cluster.scaling.rules import Rules
from cluster.supervision import Wanted
from tests.unit.cluster.world import World

P, D = Role.PREFILL, Role.DECODE
AUTO = Rules(
    ScalingSettings(mode="auto", prefill_max_workers=3, decode_max_workers=3, interval_s=1.0)
)
CALM = RouterSignals(
    PoolSignals(10.0, 100.0, attained=(0.1,)), PoolSignals(5.0, 100.0, attained=(0.1,), kv_used=0.1)
)
BUSY = RouterSignals(
    PoolSignals(10.0, 100.0, attained=(0.1,)),
    PoolSignals(150.0, 100.0, queued_s=3.0, attained=(1.5,), kv_used=0.95),
    waiting=5,
)


class Kept:
    """Keeps one text."""

    def __init__(self) -> None:
        self.text: str | None = None

    def load(self) -> str | None:
        return self.text

    def save(self, text: str) -> None:
        self.text = text


@pytest.fixture
async def world() -> World:
    world = World(AUTO, Kept())
    await world.serving()
    return world


def _wanted(world: World) -> tuple[int, int]:
    row = world.controller.scaler.row
    return row.prefill, row.decode


def _roles(view: ClusterView) -> dict[str, Role]:
    return {m.worker_id: m.info.role for m in view.members if m.info is not None}


def _say(world: World, signals: RouterSignals | None) -> None:
    world.factory.handles["router-0"].measured = signals


async def test_decode_grows_when_decode_is_the_limit_and_everybody_can_see_why(
    world: World,
) -> None:
    _say(world, BUSY)
    await world.until(lambda: _wanted(world)[1] > 1)
    assert _wanted(world)[0] == 1
    await world.until(lambda: world.state("decode-1") is WorkerState.READY)
    row = world.factory.handles["router-0"].scaling
    assert row is not None
    assert row.mode == "auto"
    assert row.why[1].startswith("decode")
    assert "decode 2" in row.lately[0] or "decode 3" in row.lately[0]


async def test_nothing_changes_while_a_router_says_nothing(world: World) -> None:
    _say(world, None)
    for _ in range(20):
        world.clock.advance(1.0)
        await world.controller.step()
    assert _wanted(world) == (1, 1)
    await world.until(lambda: bool(world.controller.scaler.row.why))
    assert "held" in world.controller.scaler.row.why[0]


async def test_a_fault_of_the_law_leaves_everything_as_it_is(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("what nobody thought of")

    monkeypatch.setattr(scaler_module, "decide", fail)
    _say(world, BUSY)
    world.clock.advance(5.0)
    await world.until(lambda: "what nobody thought of" in "".join(world.controller.scaler.row.why))
    assert _wanted(world) == (1, 1)
    monkeypatch.undo()
    await world.until(lambda: _wanted(world)[1] > 1)


async def test_by_hand_it_is_what_was_said_until_the_law_may_decide(world: World) -> None:
    scaler = world.controller.scaler
    row = scaler.set_by_hand({D: 2})
    assert (row.mode, row.prefill, row.decode) == ("manual", 1, 2)
    _say(world, BUSY)
    await world.until(lambda: world.state("decode-1") is WorkerState.READY)
    assert _wanted(world) == (1, 2)
    with pytest.raises(BatonError, match=r"decode=4; allowed: from 1 to scaling.decode_max"):
        scaler.set_by_hand({D: 4})
    with pytest.raises(BatonError, match="decode=0"):
        scaler.set_by_hand({D: 0})
    assert scaler.set_auto().mode == "auto"
    await world.until(lambda: bool(scaler.row.why))


async def test_who_is_too_many_here_and_missed_there_changes_its_pool(world: World) -> None:
    scaler = world.controller.scaler
    scaler.set_by_hand({P: 2, D: 1})
    await world.until(lambda: world.state("prefill-1") is WorkerState.READY)
    placed = len(world.factory.placements)
    scaler.set_by_hand({P: 1, D: 2})
    router = world.factory.handles["router-0"]
    await world.until(
        lambda: _roles(router.views[-1]) == {"prefill-0": D, "prefill-1": P, "decode-0": D}
    )
    scaler.set_by_hand({P: 2, D: 1})
    world.clock.advance(10.0)
    await world.until(
        lambda: _roles(router.views[-1]) == {"prefill-0": P, "prefill-1": P, "decode-0": D}
    )
    assert len(world.factory.placements) == placed


async def test_a_controller_that_starts_again_goes_on_where_it_was(world: World) -> None:
    _say(world, BUSY)
    await world.until(lambda: _wanted(world)[1] > 1)
    before = _wanted(world)
    controller = world.controller
    await controller.scaler.save()
    again = Scaler(controller.crew, controller.fronts, world.plan, world.time, world.keeper)
    await again.restore()
    assert (again.row.prefill, again.row.decode, again.row.mode) == (*before, "auto")
    world.keeper.text = json.dumps({"mode": "auto"})
    await again.restore()
    world.keeper.text = "{"
    await again.restore()
    assert (again.row.prefill, again.row.decode) == before


async def test_what_was_set_by_hand_is_kept_for_the_next_controller(world: World) -> None:
    controller = world.controller
    controller.scaler.set_by_hand({D: 2})
    await world.until(lambda: '"manual"' in (world.keeper.text or ""))
    again = Scaler(controller.crew, controller.fronts, world.plan, world.time, world.keeper)
    controller.crew.scale(Wanted(1, 1))
    await again.restore()
    assert (again.row.mode, again.row.decode) == ("manual", 2)


async def test_a_cluster_that_stops_takes_no_orders(world: World) -> None:
    await world.controller.scaler.aclose()
    for order in (
        lambda: world.controller.scaler.set_by_hand({D: 2}),
        world.controller.scaler.set_auto,
    ):
        with pytest.raises(BatonError, match="the cluster stops"):
            order()
    assert _wanted(world) == (1, 1)


async def test_calm_pools_stay_as_they_are(world: World) -> None:
    _say(world, CALM)
    await world.until(lambda: bool(world.controller.scaler.row.why))
    assert _wanted(world) == (1, 1)
    assert world.factory.placements[2:] == []


async def test_first_requests_are_part_of_a_start(world: World) -> None:
    world.factory.warmed = None
    world.controller.scaler.set_by_hand({D: 2})
    await world.until(lambda: "decode-1" in world.factory.handles)
    began = world.clock.now()
    await world.until(lambda: world.state("decode-1") is WorkerState.WARMING)
    world.clock.advance(20.0)
    world.factory.warmed = ""
    await world.until(lambda: world.state("decode-1") is WorkerState.READY)
    took_s = world.clock.now() - began
    assert world.controller.scaler._startup_s == pytest.approx(took_s, abs=5.0)


async def test_waiting_for_a_machine_is_no_part_of_a_start(world: World) -> None:
    world.factory.waits = {(WorkerId("decode-1"), 1): "waits for 1 GPU"}
    world.controller.scaler.set_by_hand({D: 2})
    await world.until(lambda: world.controller.crew.table.row(WorkerId("decode-1")) is not None)
    await world.until(lambda: world.controller.crew.table.row(WorkerId("decode-1")).waits)
    world.clock.advance(3600.0)
    await world.until(lambda: bool(world.factory.placements[2:]))
    world.factory.waits = {}
    world.factory.room.set()
    await world.until(lambda: world.state("decode-1") is WorkerState.READY)
    assert 0 < world.controller.scaler._startup_s < 60


async def test_the_last_worker_takes_requests_until_routers_know_that_it_goes(
    world: World,
) -> None:
    crew, asked = world.controller.crew, []
    crew.told = lambda version: not asked.append(version)
    crew.scale(Wanted(0, 0))
    await world.until(lambda: "decode-0 drain" in world.factory.book)
    assert asked == [crew.table.version] * len(asked) != []
