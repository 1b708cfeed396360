"""Who was seated is counted before Ray counts it, and forgotten when it is gone."""

from __future__ import annotations

from pathlib import Path
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


@pytest.fixture
def seating(monkeypatch: pytest.MonkeyPatch) -> Seating:
    found = [Node(name, name, {"CPU": 2.0}, {"CPU": 2.0}) for name in (ONE, TWO)]
    monkeypatch.setattr(ray_nodes, "nodes", lambda: found)
    monkeypatch.setattr(ray_nodes, "own_address", lambda: ONE)
    return Seating(list)


def seat(seating: Seating, name: str, spec: ActorSpec = SPEC) -> Any:
    strategy = seating.place(name, spec, lambda strategy: strategy)
    return getattr(strategy, "node_id", strategy)


def test_who_is_seated_at_one_moment_shares_the_nodes(seating: Seating) -> None:
    # Ray's numbers do not change meanwhile.
    assert [seat(seating, str(i)) for i in range(5)] == [ONE, ONE, TWO, TWO, "DEFAULT"]


def test_who_is_gone_is_nobodys_neighbour(
    seating: Seating, monkeypatch: pytest.MonkeyPatch
) -> None:
    spread = ActorSpec(object, pool="decode", spread=True)
    assert [seat(seating, name, spread) for name in "abc"] == [ONE, TWO, ONE]
    # None of them is among the living names once a start can be expected to be counted.
    monkeypatch.setattr(ray_nodes, "_SEEN_WITHIN_S", 0.0)
    assert seat(seating, "d", spread) == ONE


def test_where_ray_put_it_is_what_counts(seating: Seating) -> None:
    spread = ActorSpec(object, pool="decode", spread=True)
    assert seat(seating, "a", spread) == ONE
    seating.sits("a", "decode", TWO)
    assert seat(seating, "b", spread) == ONE


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
