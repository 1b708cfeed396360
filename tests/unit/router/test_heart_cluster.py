"""The heart follows the cluster, survives its own faults and says what it knows."""

import asyncio

import pytest

from baton.messages import Role, WorkerState
from router import flow
from router.caller import Caller
from tests.unit.router.fakes import D2, D, P, Scene, info, member

# --- the view -------------------------------------------------------------------------------------


async def test_a_worker_of_another_configuration_is_refused_loudly(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    stranger = info("d", Role.DECODE, config_digest="other")
    scene.view(member(stranger))
    scene.view(member(stranger))
    assert scene.links == {}
    assert "other" in scene.heart.status()["refused_workers"]["d"]
    assert scene.sample("baton_workers_refused_total") == 1
    assert len([r for r in caplog.records if "refused" in r.message]) == 1
    scene.up(D)
    assert scene.heart.status()["refused_workers"] == {}


async def test_of_two_versions_side_by_side_only_the_own_one_is_paired(scene: Scene) -> None:
    old = (info(f"{role.value}-9", role, config_digest="old") for role in Role)
    scene.view(member(P), member(D), *map(member, old))
    assert set(scene.links) == {"p", "d"}
    for name in scene.links:
        scene.frame(name)
    scene.submit("a")
    scene.submit("b")
    assert len(scene.links["p"].submits) == 2


async def test_what_a_restarted_worker_had_waits_for_it_to_come_back(scene: Scene) -> None:
    scene.up(D)
    scene.submit("a")
    old = scene.links["d"]
    scene.view(member(info("d", Role.DECODE, incarnation=2)))
    assert scene.front.reasons == {}
    assert scene.links["d"] is not old
    assert "waits for a worker" in scene.heart.story("a")
    scene.frame("d")
    scene.heart.tick(scene.clock.now())
    assert [s.leg_id for s in scene.links["d"].submits] == ["a.1.s"]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert old.closed


async def test_what_nobody_will_serve_any_more_ends(scene: Scene) -> None:
    scene.up(D)
    scene.submit("b")
    scene.view()
    assert scene.front.reasons == {"b": "worker_lost"}


async def test_a_draining_worker_finishes_what_it_has(scene: Scene) -> None:
    scene.up(D, D2)
    scene.view(member(D, WorkerState.DRAINING), member(D2))
    for name in ("a", "b"):
        scene.submit(name)
    assert len(scene.links["d2"].submits) == 2


async def test_an_older_view_changes_nothing(scene: Scene) -> None:
    scene.up(D)
    scene.version = 0
    scene.view()
    assert scene.heart.status()["view_version"] == 1
    assert not scene.links["d"].closed


# --- faults, pages --------------------------------------------------------------------------------


async def test_a_fault_in_the_flow_ends_that_request_alone(scene: Scene, monkeypatch) -> None:
    scene.up(D)
    scene.submit("a")
    scene.submit("b")
    real = flow.step

    def faulty(state, event):
        if state.request_id == "a" and type(event).__name__ == "TokensCame":
            raise KeyError("bug")
        return real(state, event)

    monkeypatch.setattr(flow, "step", faulty)
    scene.frame("d", prefilled=["a.0.s", "b.0.s"])
    assert scene.front.reasons == {"a": "internal"}
    assert scene.links["d"].aborts == ["a.0.s"]
    assert scene.sample("baton_router_faults_total") == 1
    assert scene.heart.inflight == 1


async def test_status_says_who_is_there_and_how_fresh_the_news_is(scene: Scene) -> None:
    scene.up(P, D)
    scene.frame("d", running=2, kv_used=0.25)
    scene.submit()
    scene.clock.advance(1.5)
    status = scene.heart.status()
    assert (status["inflight_requests"], status["view_age_s"]) == (1, 1.5)
    prefill, decode = status["workers"]
    assert (prefill["prefill_legs"], decode["frame_age_s"], decode["up"]) == (1, 1.5, True)
    assert decode["load"]["running"] == 2
    assert scene.sample("baton_worker_kv_used_ratio", worker="d", role="decode") == 0.25


async def test_stories_are_told_for_running_and_ended_requests(scene: Scene, monkeypatch) -> None:
    monkeypatch.setattr("router.ledger.STORIES_MAX", 2)
    scene.up(D)
    for name in ("chat-1-x", "chat-2-y", "chat-3-z"):
        scene.submit(name)
        scene.frame("d", done=f"{name}.0.s")
    assert scene.heart.story("chat-1") is None
    assert "submit chat-2-y.0.s to d" in scene.heart.story("chat-2-y")
    assert "request chat-3-z: closed" in scene.heart.story("chat-3")
    assert scene.heart.story("") is None
    scene.submit("live")
    assert "decoding" in scene.heart.story("live")


async def test_of_a_whole_name_no_other_story_is_told(scene: Scene) -> None:
    scene.up(D)
    for name in ("a-01234567", "1_a-01234567", "a-01234567-01234567", "ba-01234567"):
        scene.submit(name)
        scene.frame("d", done=f"{name}.0.s")
    for late in range(9):
        scene.submit(f"late-a-{late}")
        scene.frame("d", done=f"late-a-{late}.0.s")
    told = scene.heart.story("a", None, True).splitlines()
    requests = [line for line in told if line.startswith("request ")]
    assert [line.split()[1] for line in requests] == ["a-01234567:", "1_a-01234567:"]
    assert scene.heart.story("late-a", None, True) is None


async def test_with_a_tenants_name_its_own_stories_only_are_told(scene: Scene) -> None:
    scene.up(D)
    scene.submit("x-ended", caller=Caller("a"))
    scene.frame("d", done="x-ended.0.s")
    scene.submit("x-live", caller=Caller("b"))
    for name, tenant in (("x-ended", "a"), ("x-live", "b")):
        for text in (name, "x-"):
            assert f"request {name}" in scene.heart.story(text, tenant)
            (row,) = scene.heart.explain(text, tenant)
            assert row["request_id"] == name
        assert scene.heart.story(name, "c") is None
        assert scene.heart.explain(name, "c") == []
    assert len(scene.heart.explain("x-")) == 2


async def test_the_heart_watches_deadlines_by_itself(scene: Scene) -> None:
    scene.up(D)
    scene.submit(deadline_s=1.0)
    scene.clock.advance(1)
    scene.heart.start()
    await asyncio.sleep(0)
    assert scene.front.reasons == {"r": "deadline_exceeded"}


async def test_frames_and_losses_of_unknown_workers_are_ignored(scene: Scene) -> None:
    scene.frame("ghost", running=1)
    scene.lose("ghost")
    assert scene.heart.status()["workers"] == []
