"""The page's shell: what is read, and how often."""

from __future__ import annotations

import json

from baton.settings.router import SloSettings
from router.exchange import Exchange
from router.split import Part
from router.ui.board import FRESH_S, Board, Sources
from router.ui.history import STEP_S
from tests.unit.router.fakes import D, P, Scene


class Read:
    """A board of a scene's router that counts how often it is read."""

    def __init__(self, scene: Scene) -> None:
        self.times = 0
        heart, window = scene.heart, scene.heart.window

        def status():
            self.times += 1
            return heart.status()

        sources = Sources(
            scene.metrics.registry, status, heart.signals, window.latest, heart.story,
            heart.explain, window.find, window.split,
        )  # fmt: skip
        self.board = Board(sources, SloSettings(), "m", scene.clock, wall=lambda: 1e9)


async def test_many_who_look_cost_no_more_than_one(scene: Scene) -> None:
    read = Read(scene)
    first = read.board.data()
    scene.up(P, D)
    assert read.board.data() is first
    assert read.times == 1
    scene.clock.advance(FRESH_S)
    assert json.loads(read.board.data())["workers"] != []
    assert read.times == 2


async def test_totals_are_noted_while_nobody_looks(scene: Scene) -> None:
    read = Read(scene)
    scene.up(D)
    for name in "abc":
        read.board.note()
        read.board.note()
        scene.clock.advance(STEP_S)
        scene.submit(name)
        scene.frame("d", prefilled=[f"{name}.0.s"])
    assert read.times == 0
    chart = json.loads(read.board.data())["chart"]
    assert chart["age_s"] == [15.0, 10.0, 5.0, 0.0]
    assert [number is not None for number in chart["ttft"]["p50"]] == [False, True, True, True]


async def test_one_request_with_its_story_and_its_split(scene: Scene) -> None:
    scene.up(P, D)
    scene.submit("cmpl-7-0")
    board = Read(scene).board
    found = board.request("cmpl-7")
    assert (found["id"], found["outcome"], found["parts"]) == ("cmpl-7-0", "prefilling", {})
    assert found["story"] == scene.heart.story("cmpl-7-0")
    assert [plan["decode"] for plan in found["plans"]] == ["d"]
    assert board.request("other") is None


async def test_the_split_is_shown_once_there_is_one(scene: Scene) -> None:
    scene.up(P, D)
    # Reading and tokenising took a quarter of a second.
    exchange = Exchange(scene.clock.now())
    scene.clock.advance(0.25)
    scene.submit("r", exchange=exchange)
    scene.clock.advance(0.25)
    scene.frame("p", prefilled=["r.0.p"])
    scene.clock.advance(0.5)
    scene.frame("d", prefilled=["r.0.d"])
    exchange.written(scene.clock.now() + 0.25)
    scene.frame("d", done="r.0.d")
    found = Read(scene).board.request("r")
    assert list(found["parts"]) == [part.value for part in Part]
    assert sum(found["parts"].values()) == found["ttft_s"] == 1.25
