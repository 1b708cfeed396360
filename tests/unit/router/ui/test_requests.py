"""One request, as a row and with its split."""

from __future__ import annotations

import pytest

from router.ui import requests
from tests.unit.router.fakes import D, P, Scene


def told(scene: Scene, name: str) -> dict:
    state = scene.heart.window.find(name)
    return requests.row(state, scene.clock.now())


async def test_a_divided_request_from_its_coming_to_its_end(scene: Scene) -> None:
    scene.up(P, D)
    scene.submit("r")
    assert told(scene, "r")["outcome"] == "prefilling"
    scene.clock.advance(0.25)
    scene.frame("p", prefilled=["r.0.p"])
    scene.clock.advance(0.5)
    scene.frame("d", prefilled=["r.0.d"])
    scene.clock.advance(2.0)
    scene.frame("d", done="r.0.d")
    scene.clock.advance(1.0)
    row = told(scene, "r")
    assert (row["outcome"], row["prefill"], row["decode"]) == ("finished", "p", "d")
    assert (row["ttft_s"], row["duration_s"], row["age_s"]) == (0.75, 2.75, 3.75)
    assert (row["attempts"], row["division"]) == (1, "disaggregated")


@pytest.mark.parametrize(
    ("reason", "outcome"), [("internal", "internal"), ("invalid_request", "invalid_request")]
)
async def test_a_failed_request_names_its_reason(scene: Scene, reason: str, outcome: str) -> None:
    scene.up(P, D)
    scene.submit("r")
    scene.frame("p", ended=[("r.0.p", reason, 0)])
    assert told(scene, "r")["outcome"] == outcome
    assert told(scene, "r")["ttft_s"] is None


async def test_the_latest_come_first_and_no_more_than_asked_for(scene: Scene) -> None:
    scene.up(P, D)
    for name in "abcd":
        scene.submit(name)
        scene.clock.advance(1)
        if name in "abc":
            scene.heart.abort([name])
    rows = requests.rows(scene.heart.window.latest(3), scene.clock.now())
    assert [(row["id"], row["outcome"]) for row in rows] == [
        ("d", "prefilling"),
        ("c", "cancelled"),
        ("b", "cancelled"),
    ]
