"""New workers meet some of their peers before routers hear of them."""

from __future__ import annotations

import pytest

from baton.ids import WorkerId
from baton.messages import Role, WorkerState
from baton.settings.scaling import ScalingSettings
from cluster.membership import (
    DrainAsked,
    Table,
    WorkerPlaced,
    WorkerReady,
    WorkerWarming,
    apply,
)
from cluster.scaling.rules import Rules
from cluster.warming import company
from tests.unit.cluster.samples import info
from tests.unit.cluster.world import World


def table(**states: WorkerState) -> Table:
    found = Table()
    for core, (key, state) in enumerate(states.items()):
        name = WorkerId(key.replace("_", "-"))
        role = Role(name.partition("-")[0])
        found = apply(found, WorkerPlaced(name, role, 1, core, 0.0))
        if state is WorkerState.STARTING:
            continue
        found = apply(found, WorkerWarming(info(name, 1, role), 0.0))
        if state is not WorkerState.WARMING:
            found = apply(found, WorkerReady(info(name, 1, role), 0.0))
        if state is WorkerState.DRAINING:
            found = apply(found, DrainAsked(name, 1, 0.0))
    return found


def met(found: Table, name: str, most: int = 8, **own: Role) -> tuple[Role, list[str]]:
    row = found.row(WorkerId(name))
    assert row is not None
    roles = {WorkerId(key.replace("_", "-")): role for key, role in own.items()}
    role, peers = company(found, row, roles, most)
    return role, [peer.worker_id for peer in peers]


S, W, R, D = (WorkerState(s) for s in ("starting", "warming", "ready", "draining"))


def test_peers_are_those_of_the_other_role_that_are_up() -> None:
    found = table(
        prefill_0=R, prefill_1=W, prefill_2=S, prefill_3=D, decode_0=W, decode_1=R
    )  # fmt: skip
    role, peers = met(found, "decode-0")
    assert (role, sorted(peers)) == (Role.DECODE, ["prefill-0", "prefill-1"])
    role, peers = met(found, "prefill-1")
    assert (role, sorted(peers)) == (Role.PREFILL, ["decode-0", "decode-1"])


def test_who_changes_its_pool_meets_those_of_the_one_it_left() -> None:
    found = table(prefill_0=R, prefill_1=W, decode_0=R)
    role, peers = met(found, "prefill-1", prefill_1=Role.DECODE)
    assert (role, peers) == (Role.DECODE, ["prefill-0"])
    role, peers = met(found, "prefill-1", prefill_0=Role.DECODE)
    assert (role, sorted(peers)) == (Role.PREFILL, ["decode-0", "prefill-0"])


def test_there_is_a_most_and_not_all_begin_with_the_same() -> None:
    found = table(**{f"prefill_{n}": R for n in range(10)}, decode_0=W, decode_1=W)
    (_, one), (_, other) = met(found, "decode-0", 3), met(found, "decode-1", 3)
    assert len(set(one)) == len(set(other)) == 3
    assert one != other
    assert met(found, "decode-0", 0)[1] == []


def test_another_version_is_nobodys_peer() -> None:
    found = table(prefill_0=R, decode_0=W)
    new = info("prefill-1", 1, Role.PREFILL, "of another version")
    found = apply(found, WorkerPlaced(WorkerId("prefill-1"), Role.PREFILL, 1, 5, 0.0))
    found = apply(found, WorkerReady(new, 0.0))
    assert met(found, "decode-0")[1] == ["prefill-0"]


@pytest.fixture
def world() -> World:
    return World(Rules(scaling=ScalingSettings(warm_peers_max=1, warm_timeout_s=7.0)))


async def test_routers_hear_of_a_worker_once_it_is_warm(world: World) -> None:
    await world.serving()
    world.factory.warmed = None
    world.factory.handles["decode-0"].alive = False
    await world.until(lambda: world.state("decode-0") is WorkerState.WARMING)
    new = world.factory.handles["decode-0"]
    await world.until(lambda: bool(new.met))
    assert world.shown[-1].phase == "degraded"
    assert world.shown[-1].view.ready(Role.DECODE) == ()
    role, peers, timeout_s = new.met[0]
    assert (role, [p.worker_id for p in peers], timeout_s) == (Role.DECODE, ["prefill-0"], 7.0)
    world.factory.warmed = "cold"
    await world.serving()
    assert [m.detail for m in world.shown[-1].view.members] == ["", "cold"]
    assert world.factory.handles["prefill-0"].met == []


async def test_whoever_does_not_end_it_is_ready_in_time(world: World) -> None:
    world.factory.warmed = None
    await world.serving()
    details = {m.detail for m in world.shown[-1].view.members}
    assert details == {"not warmed within 7 s"}


async def test_whoever_dies_of_it_is_replaced(world: World) -> None:
    world.factory.warmed = None
    await world.until(lambda: bool(world.shown) and world.state("decode-0") is WorkerState.WARMING)
    first = world.factory.handles["decode-0"]
    first.alive = False
    await world.until(lambda: world.restarts("decode-0") == 1)
    # Its engine may still run, and is ended with it.
    assert [process.pid for process in first.killed] == [101]
