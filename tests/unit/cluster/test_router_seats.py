"""No node has two routers while another has none; only a successor starts beside a router."""

from __future__ import annotations

from typing import Any

import pytest

from baton.errors import BatonError
from cluster import router_seats
from cluster.placing import Node
from cluster.router_seats import POOL, RouterSeating
from cluster.specs import ActorSpec

# Ray takes nothing but hexadecimal ids.
ONE, TWO, THREE = "1" * 56, "2" * 56, "3" * 56
SPEC = ActorSpec(object, resources={"front": 1}, pool=POOL, spread=True)


class World:
    """Nodes with one place each, by what Ray counts as free there."""

    def __init__(self) -> None:
        self.free = {ONE: 1.0}
        self.unmarked: list[str] = []
        self.draining: set[str] = set()
        self.living: list[str] = []
        self.seating = RouterSeating(lambda: self.living)

    def nodes(self) -> list[Node]:
        free = self.free.items()
        marked = [Node(name, name, {"front": 1.0}, {"front": amount}) for name, amount in free]
        return [*marked, *(Node(name, name, {}, {}) for name in self.unmarked)]

    def place(self, name: str) -> tuple[str, float]:
        """Where it went, and what it took there."""

        def make(strategy: Any, resources: dict[str, float] | None = None) -> tuple[str, float]:
            if not isinstance(strategy, str):
                assert not strategy.soft
            took = sum((SPEC.resources if resources is None else resources).values())
            return getattr(strategy, "node_id", strategy), took

        self.living.append(name)
        where, took = self.seating.place(name, SPEC, make)
        if where in self.free:
            self.free[where] -= took
        return where, took


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    monkeypatch.setattr(router_seats, "nodes", world.nodes)
    monkeypatch.setattr(router_seats, "draining", lambda: world.draining)
    return world


def handed_over(world: World) -> None:
    """router-0 has followed itself: its place is free by Ray's count alone."""
    world.place("router:router-0:1")
    assert world.place("router:router-0:2") == (ONE, 0)
    world.living.remove("router:router-0:1")
    world.free[ONE] = 1.0


def test_who_finds_no_place_waits_for_another_node(world: World) -> None:
    assert world.place("router:router-0:1") == (ONE, 1)
    assert world.place("router:router-1:1") == ("SPREAD", 1)


def test_who_began_on_a_node_that_is_not_marked_moves_to_one_that_is(world: World) -> None:
    before = ActorSpec(object, pool=POOL)
    world.living.append("router:router-0:1")
    world.seating.sits("router:router-0:1", before, TWO)
    world.unmarked = [TWO]
    assert world.place("router:router-0:2") == (ONE, 1)


def test_a_successor_starts_beside_its_predecessor_and_takes_nothing(world: World) -> None:
    world.free |= {TWO: 1.0, THREE: 1.0}
    for n in range(3):
        world.place(f"router:router-{n}:1")
    assert world.place("router:router-1:2") == (TWO, 0)


def test_the_place_of_a_successor_is_taken(world: World) -> None:
    handed_over(world)
    with pytest.raises(BatonError, match="all places"):
        world.place("router:router-1:1")
    world.free[TWO] = 1.0
    assert world.place("router:router-1:2") == (TWO, 1)


def test_a_router_of_an_earlier_controller_has_its_place(world: World) -> None:
    world.free[TWO] = 1.0
    world.living.append("router:router-0:7")
    world.seating.sits("router:router-0:7", SPEC, ONE)
    assert world.place("router:router-1:1") == (TWO, 1)
    assert world.place("router:router-0:8") == (ONE, 0)


def test_nobody_is_sent_to_a_node_that_drains_or_is_gone(world: World) -> None:
    world.place("router:router-0:1")
    world.draining = {ONE}
    assert world.place("router:router-0:2") == ("SPREAD", 1)
    world.living.remove("router:router-0:2")
    world.free[TWO] = 1.0
    assert world.place("router:router-0:3") == (TWO, 1)
    world.free = {ONE: 1.0}
    world.draining = set()
    world.living = ["router:router-0:3"]
    assert world.place("router:router-0:4") == (ONE, 1)
