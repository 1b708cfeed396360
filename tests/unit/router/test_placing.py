"""A request outlives its workers: other workers, the same stream, a budget, and an end."""

from dataclasses import replace

import pytest

from tests.unit.router.fakes import Scene
from tests.unit.router.planner_kit import D2, P0, P1, D, prompt, scene_of, up, went_to, whys


def streaming(scene: Scene, sent: list[int], name: str = "r", **facts) -> str:
    """A request whose client has these tokens; the decode worker that it is on."""
    scene.submit(name, **{**prompt(1), "max_tokens": 50, **facts})
    plan = scene.heart.explain(name)[-1]
    scene.frame(plan["prefill"], prefilled=[f"{name}.0.p"])
    scene.frame(plan["decode"], prefilled=[f"{name}.0.d"])
    scene.front.tokens[name] = sent
    return plan["decode"]


async def test_a_stream_goes_on_where_it_was() -> None:
    scene = scene_of()
    up(scene, P0, P1, D, D2)
    lost = streaming(scene, [7, 8, 9])
    scene.clock.advance(0.5)
    scene.lose(lost)
    other = {"d": "e", "e": "d"}[lost]
    (submit,) = [s for s in scene.links[other].submits if s.leg_id == "r.1.d"]
    assert list(submit.resumed) == [7, 8, 9]
    assert submit.prompt_tokens == 2048 + 3
    (prefill,) = [s for n in ("p0", "p1") for s in scene.links[n].submits if s.leg_id == "r.1.p"]
    assert list(prefill.resumed) == [7, 8, 9]
    assert whys(scene)["prompt_tokens"] == 2051
    scene.clock.advance(0.25)
    scene.frame(other, prefilled=["r.1.d"])
    assert scene.sample("baton_resume_pause_seconds_sum") == pytest.approx(0.25)
    assert scene.sample("baton_time_to_first_token_seconds_count", **{"class": "default"}) == 1
    assert scene.sample("baton_retries_total", reason="worker_lost") == 1
    assert scene.front.failed == []


async def test_twice_is_no_different() -> None:
    scene = scene_of(disaggregate="never")
    up(scene, D, D2)
    scene.submit(**prompt(1), max_tokens=50)
    for attempt, sent in enumerate([[1], [1, 2, 3]]):
        on = scene.heart.explain("r")[-1]["decode"]
        scene.frame(on, prefilled=[f"r.{attempt}.s"])
        scene.front.tokens["r"] = sent
        scene.lose(on)
        scene.frame(on)
    legs = sorted(leg for legs in went_to(scene).values() for leg in legs)
    assert legs == ["r.0.s", "r.1.s", "r.2.s"]
    last = next(s for n in "de" for s in scene.links[n].submits if s.leg_id == "r.2.s")
    assert list(last.resumed) == [1, 2, 3]


async def test_what_cannot_go_on_ends_with_its_reason() -> None:
    scene = scene_of()
    up(scene, P0, D, D2)
    scene.lose(streaming(scene, [7], resumable=False))
    assert scene.front.reasons == {"r": "worker_lost"}


@pytest.mark.parametrize("serves", [True, False])
async def test_only_an_answer_that_is_read_elsewhere_is_left_to_its_client(serves: bool) -> None:
    scene = scene_of(disaggregate="never")
    both = [replace(one, direct_address="host:1" if serves else "") for one in (D, D2)]
    up(scene, *both)
    scene.submit(**prompt(1), max_tokens=50, direct=True)
    lost = scene.heart.explain("r")[-1]["decode"]
    (submit,) = scene.links[lost].submits
    assert bool(submit.direct.grant) is serves
    scene.frame(lost, prefilled=["r.0.s"])
    scene.front.tokens["r"] = [7]
    # The other one serves clients now; nobody would look for the rest of this answer there.
    for peer in scene.heart._registry.peers():
        peer.info = replace(peer.info, direct_address="host:1")
    scene.lose(lost)
    if serves:
        assert scene.front.reasons == {"r": "worker_lost"}
        return
    (again,) = scene.links[{"d": "e", "e": "d"}[lost]].submits
    assert list(again.resumed) == [7]
    assert not again.HasField("direct")
    assert scene.front.failed == []


async def test_a_stream_waits_for_its_only_worker() -> None:
    scene = scene_of(disaggregate="never")
    up(scene, D)
    scene.submit(**prompt(1), max_tokens=50)
    scene.frame("d", prefilled=["r.0.s"])
    scene.front.tokens["r"] = [4, 5]
    scene.lose("d")
    scene.heart.tick(scene.clock.now())
    assert (scene.front.failed, scene.heart.inflight) == ([], 1)
    scene.frame("d")
    scene.heart.tick(scene.clock.now())
    assert list(scene.links["d"].submits[-1].resumed) == [4, 5]


async def test_what_waits_for_a_worker_can_leave() -> None:
    scene = scene_of(disaggregate="never")
    up(scene, D)
    scene.submit(**prompt(1))
    scene.lose("d")
    scene.heart.abort(["r"])
    scene.frame("d")
    scene.heart.tick(scene.clock.now())
    assert went_to(scene)["d"] == ["r.0.s"]


async def test_without_a_decode_worker_prefill_stands_in() -> None:
    scene = scene_of()
    up(scene, P0, D)
    scene.lose(streaming(scene, [7, 8]))
    (submit,) = [s for s in scene.links["p0"].submits if s.leg_id == "r.1.s"]
    assert list(submit.resumed) == [7, 8]
    assert whys(scene)["division"] == "standing_in"


async def test_another_worker_is_preferred_to_the_one_that_failed() -> None:
    scene = scene_of(disaggregate="never")
    up(scene, D, D2)
    scene.submit(**prompt(1))
    first = scene.heart.explain("r")[-1]["decode"]
    scene.frame(first, ended=[("r.0.s", "engine_failed", 0.0)])
    other = {"d": "e", "e": "d"}[first]
    assert went_to(scene)[other] == ["r.1.s"]
    scene.lose(first)
    scene.frame(other, ended=[("r.1.s", "transfer_failed", 0.0)])
    assert went_to(scene)[other] == ["r.1.s", "r.2.s"]


async def test_who_is_full_is_not_asked_twice_if_there_is_nobody_else() -> None:
    scene = scene_of(disaggregate="never")
    up(scene, D)
    scene.submit(**prompt(1))
    scene.frame("d", ended=[("r.0.s", "worker_full", 3.0)])
    ((_, error),) = scene.front.failed
    assert (error.reason.value, error.message, error.retry_after_s) == ("worker_full", "why", 3.0)


async def test_a_sick_cluster_is_not_drowned_in_attempts() -> None:
    scene = scene_of(disaggregate="never", max_inflight_requests=3)
    up(scene, D, D2)
    ended = 0
    for n in range(12):
        scene.submit(f"r{n}", **prompt(1))
        for attempt in range(9):
            plans = scene.heart.explain(f"r{n}")
            if len(plans) <= attempt:
                break
            leg = f"r{n}.{attempt}.s"
            scene.frame(plans[attempt]["decode"], ended=[(leg, "engine_failed", 0.0)])
            ended += 1
    assert set(scene.front.reasons.values()) == {"engine_failed"}
    assert ended <= 12 + 3 + 12 * 0.2
    assert scene.sample("baton_retries_total", reason="over_budget") > 0
    assert scene.heart.inflight == 0


def pass_time(scene: Scene, seconds: float, speaking: str) -> None:
    """Ticks as they come, while one worker speaks."""
    for _ in range(round(seconds / 0.1)):
        scene.clock.advance(0.1)
        scene.frame(speaking, running=50)
        scene.heart.tick(scene.clock.now())


async def test_a_silent_worker_gets_nothing_new_and_then_loses_what_it_has() -> None:
    scene = scene_of(disaggregate="never")
    up(scene, D, D2)
    scene.heart.tick(scene.clock.now())
    scene.submit("a", **prompt(1))
    silent = scene.heart.explain("a")[-1]["decode"]
    other = {"d": "e", "e": "d"}[silent]
    pass_time(scene, 0.6, other)
    scene.submit("b", **prompt(2))
    assert went_to(scene)[other] == ["b.0.s"]
    assert scene.sample("baton_worker_shunned", worker=silent, role="decode") == 1
    pass_time(scene, 0.5, other)
    assert went_to(scene)[other] == ["b.0.s", "a.1.s"]
    assert scene.links[silent].aborts == ["a.0.s"]
    scene.frame(silent, done="a.0.s")
    assert scene.front.delivered[-1][1] == {}
    scene.heart.tick(scene.clock.now())
    assert scene.sample("baton_worker_shunned", worker=silent, role="decode") == 0
    assert scene.front.failed == []


async def test_a_router_that_stood_still_does_not_blame_the_workers() -> None:
    scene = scene_of(disaggregate="never")
    up(scene, D)
    scene.heart.tick(scene.clock.now())
    scene.submit("a", **prompt(1))
    scene.clock.advance(5.0)
    scene.heart.tick(scene.clock.now())
    assert scene.heart.status()["workers"][0]["up"]
    scene.submit("b", **prompt(2))
    assert went_to(scene)["d"] == ["a.0.s", "b.0.s"]


async def test_the_last_worker_serves_however_often_it_was_lost() -> None:
    scene = scene_of(disaggregate="never")
    up(scene, D)
    for _ in range(4):
        scene.lose("d")
        scene.frame("d")
    scene.heart.tick(scene.clock.now())
    assert scene.sample("baton_worker_shunned", worker="d", role="decode") == 1
    scene.submit("a", **prompt(1))
    assert went_to(scene)["d"] == ["a.0.s"]


async def test_an_engine_that_failed_behind_a_living_worker_is_not_tried_again() -> None:
    scene = scene_of()
    up(scene, P0, D)
    scene.submit("a", **prompt(1))
    scene.frame("p0", ended=[("a.0.p", "engine_failed", 0.0)], draining=True)
    assert went_to(scene) == {"p0": ["a.0.p"], "d": ["a.0.d", "a.1.s"]}
