"""What tiny workers see on a Ray of several nodes; a process of its own prints it as JSON."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

from baton.errors import StartupError
from baton.ids import WorkerId
from baton.messages import Role
from cluster.addresses import listen_at, reached_at
from cluster.ports import Placement
from cluster.ray_actors import RayActorFactory, RayHandle, end_cluster, named_actors
from cluster.ray_nodes import check_reach, nodes, own_address
from cluster.ray_runtime import RayOptions, start_or_join
from cluster.specs import ActorSpec

ENV = {"env_vars": {"TINY_EVERYWHERE": "yes"}}


class Placed:
    """Says where it is."""

    def leave(self) -> bool:
        return False

    def where(self) -> tuple[str, str, str | None]:
        """Where it listens, where it is reached, and what the runtime environment says."""
        with socket.create_server((listen_at("node", own_address), 0)) as server:
            listens = str(server.getsockname()[0])
        return listens, reached_at("0.0.0.0", own_address), os.environ.get("TINY_EVERYWHERE")


def factory(cpus: float, *, here: bool = False) -> RayActorFactory:
    """Prefill packs, decode spreads."""

    def worker(p: Placement) -> ActorSpec:
        spread = p.role is Role.DECODE
        return ActorSpec(Placed, (), cpus, pool=p.role.value, spread=spread, here=here)

    return RayActorFactory(
        "nodes", detached=True, worker=worker, router=lambda *_: ActorSpec(Placed)
    )


def placement(role: Role, number: int) -> Placement:
    return Placement(WorkerId(f"{role.value}-{number}"), role, 1, 0)


async def seats(chosen: RayActorFactory, wanted: list[Placement]) -> list[Any]:
    """What each worker saw, all of them started at the same moment."""
    handles: list[RayHandle] = await asyncio.gather(*map(chosen.worker, wanted))
    return [await handle.call("where", timeout_s=30) for handle in handles]


async def wait_for_more_than_there_is() -> dict[str, object]:
    chosen = factory(8)
    under_way = asyncio.create_task(chosen.worker(placement(Role.DECODE, 9)))
    for _ in range(300):
        if chosen.waiting():
            break
        await asyncio.sleep(0.1)
    waiting = {f"{name} {number}": why for (name, number), why in chosen.waiting().items()}
    under_way.cancel()
    await asyncio.wait((under_way,))
    left = [name for name in named_actors("nodes") if "decode-9" in name]
    return {"waiting": waiting, "left": left, "then": dict(chosen.waiting())}


def refusal(bind_host: str) -> str:
    try:
        check_reach(bind_host)
    except StartupError as error:
        return error.message
    return ""


async def look() -> dict[str, object]:
    half = factory(0.5)
    # Three fill a node of two CPUs beyond the half at which Ray's default would take the next.
    said = {
        "own": own_address(),
        "pack": await seats(half, [placement(Role.PREFILL, n) for n in range(3)]),
        "spread": await seats(half, [placement(Role.DECODE, n) for n in range(2)]),
        "here": await seats(factory(0, here=True), [placement(Role.DECODE, 2)]),
        "wait": await wait_for_more_than_there_is(),
        "refusals": {host: refusal(host) for host in ("127.0.0.1", "10.0.0.7", "node", "0.0.0.0")},
    }
    await end_cluster("nodes")
    return {**said, "left": named_actors("nodes")}


def main(address: str, folder: str) -> None:
    options = RayOptions(address, "nodes", "node", Path(folder), 75, 1, runtime_env=ENV)
    runtime = start_or_join(options)
    try:
        until = time.monotonic() + 60
        while len(nodes()) < 2 and time.monotonic() < until:
            time.sleep(0.1)
        sys.stdout.write(json.dumps(asyncio.run(look())))
    finally:
        runtime.shutdown()
