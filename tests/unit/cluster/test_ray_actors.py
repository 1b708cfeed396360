"""Whoever gives up leaves no actor behind, not even one that is only being made."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from baton.ids import WorkerId
from baton.messages import Role
from cluster import ray_actors
from cluster.ports import Placement
from cluster.processes import Process
from cluster.ray_actors import RayActorFactory, Whereabouts, named_actors
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


async def test_the_processes_of_a_machine_that_is_back_are_ended_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine, asked = Process(7, 8), []

    def remotely(node: str) -> Any:
        return SimpleNamespace(remote=lambda *what: asked.append((node, *what)))

    async def answer(*_args: object) -> bool:
        return True

    here = SimpleNamespace(get_node_id=lambda: "here")
    monkeypatch.setattr(ray, "get_runtime_context", lambda: here)
    monkeypatch.setattr(ray_actors, "node_now", {"gone": "back"}.__getitem__)
    monkeypatch.setattr(ray_actors, "_remotely", remotely)
    monkeypatch.setattr(ray_actors, "_answer", answer)
    assert await ray_actors._end_there(Whereabouts(engine, "host", "gone"), "w", (engine,))
    assert asked == [("back", "host", (engine,))]


def test_actors_of_others_in_the_namespace_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    names = ["worker:decode-0:1:0", "SERVE_CONTROLLER_ACTOR", "router:router-0:2", "workers"]
    listed = [{"name": name, "namespace": "serve"} for name in names]
    listed.append({"name": "router:router-9:1", "namespace": "other"})
    monkeypatch.setattr(ray.util, "list_named_actors", lambda *, all_namespaces: listed)
    assert named_actors("serve") == ["router:router-0:2", "worker:decode-0:1:0"]
