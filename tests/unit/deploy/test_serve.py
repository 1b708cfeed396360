"""How workers and routers are asked for, by the settings."""

from __future__ import annotations

import asyncio
import errno
from types import SimpleNamespace
from typing import Any, cast

import pytest

from baton.ids import RouterId, WorkerId
from baton.messages import Role
from baton.settings import Settings, load
from cluster import router_seats
from cluster.ports import Placement
from cluster.specs import ActorSpec
from deploy.serve import Classes, _obey, _resources, _Watcher, router_spec, worker_spec

CLASSES = Classes(type("W", (), {}), type("R", (), {}), "digest", "model", "cuda")
D0 = Placement(WorkerId("decode-0"), Role.DECODE, 1, 0)


def settings(**given: Any) -> Settings:
    return load(None, {}, {key.replace("__", "."): value for key, value in given.items()}).settings


def worker(joined: bool, **given: Any) -> ActorSpec:
    return worker_spec(settings(**given), CLASSES, D0, joined=joined)


def test_an_engine_gets_all_its_devices_on_one_node() -> None:
    spec = worker(
        True,
        engine__tensor_parallel_size=4,
        decode__accelerator_type="H100",
        decode__placement="spread",
        decode__resources={"rack": 1},
    )
    assert spec.needs == {"GPU": 4, "CPU": 1, "accelerator_type:H100": 0.001, "rack": 1}
    assert (spec.pool, spec.spread) == ("decode", True)


def test_who_listens_on_loopback_stays_on_this_machine() -> None:
    assert worker(True).here
    assert not worker(False).here
    assert not worker(True, cluster__bind_host="node").here


def test_routers_are_where_their_port_is_held() -> None:
    router, everywhere = RouterId("router-0"), settings(router__host="0.0.0.0")
    assert router_spec(everywhere, CLASSES, router, joined=True).here
    assert not router_spec(everywhere, CLASSES, router).here


def test_routers_keep_to_their_nodes_and_apart() -> None:
    router = RouterId("router-0")
    marked = settings(router__resources={"front": 1}, router__host="0.0.0.0")
    spec = router_spec(marked, CLASSES, router, joined=True)
    assert spec.needs == {"front": 1}
    assert (spec.pool, spec.spread, spec.here) == (router_seats.POOL, True, False)
    unmarked = router_spec(settings(), CLASSES, router)
    assert (unmarked.pool, unmarked.spread) == ("", False)
    # Nobody elsewhere would reach it.
    loopback = settings(router__resources={"front": 1})
    assert router_spec(loopback, CLASSES, router, joined=True).here


def test_a_ray_of_its_own_has_what_routers_take() -> None:
    given = settings(router__resources={"front": 1}, decode__resources={"rack": 1})
    assert _resources(given)["front"] == 1


class FullDisk:
    """Where nothing can be written any more; the second look at orders is the last."""

    def __init__(self) -> None:
        self.looks = 0

    def update(self, *_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    def take(self, _: object) -> None:
        self.looks += 1
        if self.looks == 2:
            raise asyncio.CancelledError
        raise OSError(errno.ENOSPC, "no space left")


def test_a_full_disk_ends_no_cluster() -> None:
    shown: list[object] = []
    launch: Any = SimpleNamespace(screen=SimpleNamespace(show=shown.append))
    disk: Any = FullDisk()
    status: Any = SimpleNamespace(phase="degraded", url=None)
    _Watcher(launch, disk).show(status)
    assert shown == [status]


async def test_a_full_disk_ends_no_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.serve.LOOK_EVERY_S", 0.0)
    disk: Any = FullDisk()
    with pytest.raises(asyncio.CancelledError):
        await _obey(cast("Any", None), disk)
    assert disk.looks == 2
