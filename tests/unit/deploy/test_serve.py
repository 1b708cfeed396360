"""How workers and routers are asked for, by the settings."""

from __future__ import annotations

from typing import Any

from baton.ids import RouterId, WorkerId
from baton.messages import Role
from baton.settings import Settings, load
from cluster.ports import Placement
from cluster.specs import ActorSpec
from deploy.serve import Classes, router_spec, worker_spec

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
    router = RouterId("router-0")
    assert router_spec(settings(), CLASSES, router, joined=True).here
    assert not router_spec(settings(router__host="0.0.0.0"), CLASSES, router, joined=True).here
