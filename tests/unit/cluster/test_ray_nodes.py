"""Who was seated is counted before Ray counts it, and forgotten when it is gone."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from baton.errors import StartupError
from cluster import ray_nodes, ray_runtime
from cluster.placing import Node
from cluster.ray_nodes import Seating
from cluster.ray_runtime import RayOptions
from cluster.specs import ActorSpec

# Ray takes nothing but hexadecimal ids.
ONE, TWO = "1" * 56, "2" * 56
SPEC = ActorSpec(object, cpus=1, pool="decode")
SPREAD = ActorSpec(object, pool="decode", spread=True)


@pytest.fixture
def living() -> list[str]:
    return list("abcde")


@pytest.fixture
def seating(living: list[str], monkeypatch: pytest.MonkeyPatch) -> Seating:
    # Ray's numbers never change: it counts late.
    found = [Node(name, name, {"CPU": 2.0}, {"CPU": 2.0}) for name in (ONE, TWO)]
    monkeypatch.setattr(ray_nodes, "nodes", lambda: found)
    monkeypatch.setattr(ray_nodes, "own_address", lambda: ONE)
    return Seating(lambda: living)


def seat(seating: Seating, name: str, spec: ActorSpec = SPEC) -> Any:
    strategy = seating.place(name, spec, lambda strategy: strategy)
    return getattr(strategy, "node_id", strategy)


def test_who_is_seated_at_one_moment_shares_the_nodes(seating: Seating) -> None:
    assert [seat(seating, name) for name in "abcde"] == [ONE, ONE, TWO, TWO, "DEFAULT"]


def test_who_is_gone_has_no_seat(seating: Seating, living: list[str]) -> None:
    assert [seat(seating, name) for name in "abc"] == [ONE, ONE, TWO]
    living.remove("a")
    living.remove("c")
    assert seat(seating, "d") == ONE


def test_where_ray_put_it_is_what_counts(seating: Seating) -> None:
    assert seat(seating, "a", SPREAD) == ONE
    seating.sits("a", SPREAD, TWO)
    assert seat(seating, "b", SPREAD) == ONE


@pytest.mark.parametrize(("bind_host", "refused"), [("127.0.0.1", True), ("node", False)])
def test_an_address_that_other_nodes_cannot_use_is_refused(
    seating: Seating, bind_host: str, refused: bool
) -> None:
    if refused:
        with pytest.raises(StartupError, match=r"cluster\.bind_host is '127\.0\.0\.1'"):
            ray_nodes.check_reach(bind_host)
    else:
        ray_nodes.check_reach(bind_host)


def test_an_environment_that_ray_would_choke_on_is_refused_by_its_setting() -> None:
    given = {"working_dir": "no/such/folder"}
    options = RayOptions("local", "n", "127.0.0.1", Path(), 75, 1, runtime_env=given)
    with pytest.raises(StartupError, match=r"cluster\.runtime_env: .*no/such/folder"):
        ray_runtime._environment(options)
    assert ray_runtime._environment(RayOptions("local", "n", "127.0.0.1", Path(), 75, 1)) is None


def _node(node_id: str, address: str, *, alive: bool) -> dict[str, object]:
    return {"NodeID": node_id, "NodeManagerAddress": address, "Alive": alive}


def test_a_machine_that_ray_gave_up_is_found_under_its_fresh_id(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import ray

    found = [
        _node("gone", "10.0.0.3", alive=False),
        _node("there", "10.0.0.4", alive=True),
        _node("beside", "10.0.0.4", alive=True),
    ]
    monkeypatch.setattr(ray, "nodes", lambda: found)
    assert ray_nodes.node_now("gone") == "gone"
    found.append(_node("back", "10.0.0.3", alive=True))
    assert ray_nodes.node_now("gone") == "back"
    assert ray_nodes.node_now("there") == "there"
    assert ray_nodes.node_now("unheard of") == "unheard of"


def test_without_ray_no_node_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    assert not ray_nodes.leaving_here()
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    here = SimpleNamespace(get_node_id=lambda: "here")
    monkeypatch.setattr(ray, "get_runtime_context", lambda: here)
    for ending, found in (({"there"}, False), ({"there", "here"}, True)):
        monkeypatch.setattr(ray_nodes, "draining", lambda ending=ending: ending)
        assert ray_nodes.leaving_here() is found

    def lost() -> set[str]:
        raise ray.exceptions.RaySystemError("the control store is away")

    monkeypatch.setattr(ray_nodes, "draining", lost)
    assert not ray_nodes.leaving_here()
