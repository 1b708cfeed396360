"""Baton's policy in the router: caches and questions."""

import math

import pytest

from baton.wire import worker_pb2 as pb
from tests.unit.router.fakes import Scene
from tests.unit.router.planner_kit import (
    BLOCK,
    D2,
    P0,
    P1,
    P2,
    D,
    blocks,
    prompt,
    scene_of,
    tell,
    up,
    went_to,
    whys,
)


async def test_a_prompt_goes_where_its_prefix_is_cached() -> None:
    scene = scene_of()
    up(scene, P0, P1, P2, D, holding={"p2": blocks(1)[:120]})
    scene.submit(**prompt(1))
    sent = went_to(scene)
    assert (sent["p2"], sent["d"]) == (["r.0.p"], ["r.0.d"])
    why = whys(scene)
    assert why["prefill"]["why"] == "warmest"
    assert why["prefill"]["candidates"][0]["cached_tokens"] == 120 * BLOCK
    assert (why["key_tokens"], len(why["homes"])) == (1024, 3)
    (submit,) = scene.links["p2"].submits
    assert tuple(submit.blocks) == blocks(1)
    assert list(scene.links["d"].submits[0].blocks) == []
    assert "prefill=p2" in scene.heart.story("r")


async def test_another_tenants_cache_does_not_count() -> None:
    scene = scene_of()
    up(scene, P0, D, holding={"p0": blocks(1)})
    scene.submit(cache_salt="tenant", **prompt(1))
    assert whys(scene)["prefill"]["candidates"][0]["cached_tokens"] == 0
    assert tuple(scene.links["p0"].submits[0].blocks) == blocks(1, salt="tenant")


async def test_the_warm_worker_is_left_when_its_queue_costs_more_than_it_saves() -> None:
    scene = scene_of()
    up(scene, P0, P1, D, holding={"p0": blocks(1)[:100]})
    tell(scene, "p0", blocks(1)[:100], queue_s=0.9)
    tell(scene, "p0", blocks(1)[:100], queue_s=8.0)
    scene.submit(**prompt(1))
    assert went_to(scene)["p1"] == ["r.0.p"]
    assert whys(scene)["prefill"]["why"] == "cheaper"


async def test_deltas_are_followed_and_a_gap_makes_it_ask_for_everything() -> None:
    scene = scene_of(ask="never")
    up(scene, P0, P1, D)
    scene.frame("p1", news={"cache": pb.CacheDelta(number=2, stored=blocks(1)[:64])})
    scene.submit("a", **prompt(1))
    assert went_to(scene)["p1"] == ["a.0.p"]
    scene.frame("p1", news={"cache": pb.CacheDelta(number=9, stored=blocks(2))})
    scene.frame("p1", news={"cache": pb.CacheDelta(number=10, stored=blocks(3))})
    assert scene.links["p1"].resyncs == 1
    assert scene.heart.status()["routing"]["problems"]["gap"] == 2
    scene.clock.advance(1.1)
    scene.frame("p1", news={"cache": pb.CacheDelta(number=10)})
    assert scene.links["p1"].resyncs == 2
    tell(scene, "p1", blocks(1))
    assert scene.heart.status()["routing"]["workers"]["p1"]["cached_blocks"] == 128
    assert scene.sample("baton_worker_cached_blocks", worker="p1") == 128
    assert scene.sample("baton_worker_news_unusable_total", kind="gap") == 3


async def test_a_lost_worker_is_unknown_until_it_says_everything_again() -> None:
    scene = scene_of(ask="never")
    up(scene, P0, P1, D, holding={"p0": blocks(1)})
    scene.lose("p0")
    assert scene.heart.status()["routing"]["workers"]["p0"]["cached_blocks"] == 0
    scene.submit("a", **prompt(1))
    assert went_to(scene)["p1"] == ["a.0.p"]


# --- questions ------------------------------------------------------------------------------------


def answer(scene: Scene, worker: str, leg: str, queue_s: float, cached=0, refused="") -> None:
    said = pb.Answer(leg_id=leg, queue_s=queue_s, cached_tokens=cached, refused=refused)
    scene.frame(worker, news={"answers": [said]})


async def test_without_a_fresh_view_the_candidates_are_asked() -> None:
    scene = scene_of()
    scene.up(P0, P1, D)
    scene.submit(**prompt(1))
    assert went_to(scene) == {"p0": [], "p1": [], "d": []}
    asked = [p for name in ("p0", "p1") for p in scene.links[name].probes]
    assert [(p.leg_id, p.prompt_tokens, tuple(p.blocks)) for p in asked] == [
        ("r.0.p", 2048, blocks(1))
    ] * 2
    answer(scene, "p0", "r.0.p", 0.5)
    assert went_to(scene)["p0"] == []
    answer(scene, "p1", "r.0.p", 0.1, cached=1024)
    assert went_to(scene)["p1"] == ["r.0.p"]
    assert scene.links["p0"].aborts == ["r.0.p"]
    assert scene.links["p1"].submits[0].queue_max_s == pytest.approx(0.3)
    assert set(whys(scene)["prefill"]["asked"]) == {"p0", "p1"}
    assert "asks " in scene.heart.story("r")
    assert scene.sample("baton_probes_total", answer="answered") == 2


async def test_who_does_not_answer_is_not_waited_for() -> None:
    scene = scene_of()
    scene.up(P0, P1, D)
    scene.submit(**prompt(1))
    answer(scene, "p0", "r.0.p", math.nan)
    answer(scene, "p0", "r.0.p", 0.2)
    scene.heart.tick(scene.clock.now())
    assert went_to(scene)["p0"] == []
    scene.clock.advance(0.06)
    scene.heart.tick(scene.clock.now())
    assert sorted(len(legs) for name, legs in went_to(scene).items() if name != "d") == [0, 1]
    assert scene.sample("baton_probes_total", answer="late") == 1


async def test_only_those_that_would_take_it_are_chosen_from() -> None:
    scene = scene_of()
    scene.up(P0, P1, D)
    scene.submit(**prompt(1))
    answer(scene, "p0", "r.0.p", 0.0, cached=2000, refused="draining")
    answer(scene, "p1", "r.0.p", 0.9)
    assert went_to(scene)["p1"] == ["r.0.p"]


async def test_a_worker_that_is_lost_is_no_longer_waited_for() -> None:
    scene = scene_of()
    scene.up(P0, P1, D)
    scene.submit(**prompt(1))
    answer(scene, "p0", "r.0.p", 0.0)
    scene.lose("p1")
    assert went_to(scene)["p0"] == ["r.0.p"]


async def test_a_worker_that_sends_a_request_back_is_asked_again_with_the_others() -> None:
    scene = scene_of()
    up(scene, P0, P1, D)
    scene.submit(**prompt(1))
    (first,) = [name for name in ("p0", "p1") if went_to(scene)[name]]
    other = {"p0": "p1", "p1": "p0"}[first]
    scene.frame(first, ended=[("r.0.p", "worker_full", 1.0)])
    assert scene.links["d"].aborts == ["r.0.d"]
    answer(scene, first, "r.1.p", 3.0)
    answer(scene, other, "r.1.p", 0.0)
    assert went_to(scene)[other] == ["r.1.p"]
    assert whys(scene)["refused"] == (f"{first}: why",)
    assert len(scene.heart.explain("r")) == 2


async def test_a_full_decode_worker_is_avoided_while_the_prompt_is_computed() -> None:
    scene = scene_of(ask="never")
    up(scene, P0, D, D2)
    scene.submit(**prompt(1, 512))
    (full,) = [name for name in ("d", "e") if went_to(scene)[name]]
    scene.frame(full, ended=[("r.0.d", "worker_full", 1.0)])
    (other,) = {"d", "e"} - {full}
    assert went_to(scene)[other] == ["r.1.d"]
    assert went_to(scene)[full] == ["r.0.d"]


async def test_a_client_that_leaves_while_candidates_are_asked_is_forgotten() -> None:
    scene = scene_of()
    scene.up(P0, P1, D)
    scene.submit(**prompt(1))
    scene.heart.abort(["r"])
    answer(scene, "p0", "r.0.p", 0.0)
    answer(scene, "p1", "r.0.p", 0.0)
    assert went_to(scene) == {"p0": [], "p1": [], "d": []}
    figures = scene.heart.status()["routing"]
    assert (figures["kept_requests"], figures["questions"]) == (0, 0)
