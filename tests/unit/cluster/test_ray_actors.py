"""Whoever gives up leaves no actor behind, not even one that is only being made."""

from __future__ import annotations

import asyncio
import threading

import pytest

from baton.ids import WorkerId
from baton.messages import Role
from cluster import ray_actors
from cluster.ports import Placement
from cluster.ray_actors import RayActorFactory
from cluster.specs import ActorSpec

P0 = Placement(WorkerId("prefill-0"), Role.PREFILL, 1, 0)


async def test_an_actor_that_nobody_waits_for_any_more_is_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, ended = threading.Event(), asyncio.Event()

    def create(_self: RayActorFactory, _name: str, _spec: ActorSpec) -> str:
        made.wait(10)
        return "actor"

    def end(actor: str, name: str) -> bool:
        assert (actor, name) == ("actor", "worker:prefill-0:1:0")
        ended.set()
        return True

    monkeypatch.setattr(RayActorFactory, "_create", create)
    monkeypatch.setattr(ray_actors, "_ask_to_kill", end)
    spec = ActorSpec(object)
    factory = RayActorFactory("n", detached=True, worker=lambda _: spec, router=lambda *_: spec)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(factory.worker(P0), 0.01)
    made.set()
    await asyncio.wait_for(ended.wait(), 10)
