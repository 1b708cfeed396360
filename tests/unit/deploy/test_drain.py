"""A rolling restart, one worker after the other, with what people see of it."""

from collections.abc import Mapping
from typing import Any

import pytest

from baton.errors import BatonError, Reason
from deploy.drain import Patience, drain, everybody


class Cluster:
    """Answers orders, and moves on by one state each time somebody looks."""

    def __init__(self, *states: tuple[str, int]) -> None:
        self.states = list(states)
        self.ordered: list[str] = []
        self.left = 3

    def give(self, order: Mapping[str, Any]) -> dict[str, Any]:
        if order["name"] == "nobody":
            raise BatonError(Reason.NO_WORKER, "there is no worker nobody")
        self.ordered.append(order["name"])
        return {"incarnation": 1}

    def page(self) -> dict[str, Any]:
        state, incarnation = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        member = {"worker_id": "d", "state": state, "incarnation": incarnation, "detail": "why"}
        load = {"running": 2, "waiting": 1}
        return {"members": [member], "workers": [{"worker_id": "d", "load": load}]}


def run(cluster: Cluster, *names: str, most_s: float = 100.0) -> list[str]:
    said: list[str] = []
    passed = [0.0]

    def pause(seconds: float) -> None:
        passed[0] += seconds

    patience = Patience(most_s, pause, lambda: passed[0])
    drain(names, cluster, cluster.page, said.append, patience)
    return said


def test_each_change_is_said_once_until_a_later_start_is_ready() -> None:
    states = [("ready", 1), ("draining", 1), ("draining", 1), ("starting", 2), ("ready", 2)]
    assert run(Cluster(*states), "d") == [
        "d: asked, why",
        "d: draining, 3 requests left",
        "d: starting, why",
        "d: ready",
    ]


def test_one_after_the_other() -> None:
    cluster = Cluster(("ready", 2))
    run(cluster, "d", "d")
    assert cluster.ordered == ["d", "d"]
    assert everybody(cluster.page()) == ["d"]


def router(incarnation: int, state: str, detail: str = "", *, replaced: bool = False) -> dict:
    row = {"router_id": "r", "state": state, "incarnation": incarnation, "detail": detail}
    return {**row, "replaced": replaced}


def test_a_router_is_back_once_the_old_one_has_gone() -> None:
    old = [("ready", ""), ("ready", "its successor starts")]
    pages = [[router(1, *words)] for words in old]
    pages += [
        [router(2, "ready"), router(1, "draining", "3 clients left", replaced=True)],
        [router(2, "ready")],
    ]

    class Routers(Cluster):
        def page(self) -> dict[str, Any]:
            return {"routers": pages.pop(0)}

    assert run(Routers(), "r") == [
        "r: asked",
        "r: asked, its successor starts",
        "r: draining, 3 clients left",
        "r: ready",
    ]


def test_everybody_is_all_workers_and_then_all_routers() -> None:
    page = {
        "members": [{"worker_id": "p"}, {"worker_id": "d"}],
        "routers": [router(2, "ready"), router(1, "draining", replaced=True)],
    }
    assert everybody(page) == ["p", "d", "r"]


def test_a_worker_that_does_not_come_back_is_an_error() -> None:
    with pytest.raises(BatonError, match="not back after 5 s: starting, why"):
        run(Cluster(("starting", 2)), "d", most_s=5)


def test_who_is_not_there_is_an_error() -> None:
    with pytest.raises(BatonError, match="no worker nobody"):
        run(Cluster(("ready", 1)), "nobody")
    with pytest.raises(BatonError, match="not listed"):
        run(Cluster(("ready", 1)), "e", most_s=1)


def test_a_page_that_does_not_come_once_is_asked_for_again() -> None:
    class Late(Cluster):
        missed = False

        def page(self) -> dict[str, Any]:
            if not self.missed:
                self.missed = True
                raise BatonError(Reason.NO_WORKER, "nothing answers")
            return super().page()

    assert run(Late(("ready", 2)), "d") == ["d: nothing answers", "d: ready"]
