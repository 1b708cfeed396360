"""Baton's policy in the router: queue, division, refusals, nonsense."""

import math

import pytest

from baton.errors import Reason
from baton.messages import Dispatch, Role, WorkerState
from baton.wire import worker_pb2 as pb
from tests.unit.router.fakes import info, member, refused
from tests.unit.router.planner_kit import (
    D2,
    P0,
    P1,
    D,
    blocks,
    prompt,
    scene_of,
    tell,
    up,
    went_to,
    whys,
)

# --- the queue ------------------------------------------------------------------------------------


async def test_what_no_worker_has_room_for_waits_in_the_router_and_can_still_move() -> None:
    scene = scene_of(queue_ahead_s=1.0, ask="never")
    up(scene, P0, P1, D)
    for worker in ("p0", "p1"):
        for _ in range(2):
            tell(scene, worker, queue_s=1.5 if worker == "p0" else 1.8)
    scene.submit("a", **prompt(1))
    assert went_to(scene) == {"p0": [], "p1": [], "d": []}
    scene.heart.tick(scene.clock.now())
    assert scene.sample("baton_queued_requests") == 1
    assert "waits here" in scene.heart.story("a")
    tell(scene, "p1", queue_s=0.2)
    assert went_to(scene)["p1"] == ["a.0.p"]
    assert whys(scene, "a")["prefill"]["moved"]
    assert scene.sample("baton_rebalanced_requests_total") == 1
    scene.heart.tick(scene.clock.now())
    assert scene.sample("baton_queued_requests") == 0


async def test_what_waits_here_ends_with_its_deadline() -> None:
    scene = scene_of(ask="never")
    up(scene, P0, D)
    for _ in range(2):
        tell(scene, "p0", queue_s=100.0)
    scene.submit("a", deadline_s=5.0, **prompt(1))
    scene.clock.advance(6)
    scene.heart.tick(scene.clock.now())
    assert scene.front.reasons == {"a": "deadline_exceeded"}
    assert scene.heart.status()["routing"]["kept_requests"] == 0


async def test_what_waits_here_is_served_whole_when_the_only_prefill_worker_leaves() -> None:
    scene = scene_of(ask="never")
    up(scene, P0, D)
    for _ in range(2):
        tell(scene, "p0", queue_s=100.0)
    scene.submit("a", **prompt(1))
    assert went_to(scene) == {"p0": [], "d": []}
    scene.frame("p0", draining=True)
    scene.heart.tick(scene.clock.now())
    assert went_to(scene)["d"] == ["a.0.s"]
    assert scene.heart.status()["routing"]["kept_requests"] == 0


async def test_what_waits_here_stays_where_prompts_must_be_computed_apart() -> None:
    scene = scene_of(ask="never", disaggregate="always")
    up(scene, P0, D)
    for _ in range(2):
        tell(scene, "p0", queue_s=100.0)
    scene.submit("a", **prompt(1))
    scene.frame("p0", draining=True)
    scene.heart.tick(scene.clock.now())
    assert went_to(scene) == {"p0": [], "d": []}
    tell(scene, "p0", queue_s=0.0)
    tell(scene, "p0", queue_s=0.0)
    assert went_to(scene)["p0"] == ["a.0.p"]


async def test_what_waits_here_is_refused_when_the_last_decode_worker_goes() -> None:
    scene = scene_of(ask="never")
    up(scene, P0, D)
    for _ in range(2):
        tell(scene, "p0", queue_s=100.0)
    scene.submit("a", **prompt(1))
    scene.view(member(P0), member(D, WorkerState.DRAINING))
    tell(scene, "p0", queue_s=0.0)
    assert scene.front.reasons == {"a": "draining"}


async def test_what_was_just_sent_counts_until_the_worker_can_have_reported_it() -> None:
    scene = scene_of(ask="never")
    up(scene, P0, P1, D)
    for n in range(6):
        scene.submit(f"r{n}", **prompt(n + 1, 512))
    sent = went_to(scene)
    assert len(sent["p0"]) == len(sent["p1"]) == 3


# --- division -------------------------------------------------------------------------------------


async def test_a_short_uncached_rest_is_computed_by_the_decode_worker() -> None:
    scene = scene_of()
    up(scene, P0, D, holding={"d": blocks(1)[:127], "p0": blocks(1)[:127]})
    scene.submit(**prompt(1))
    assert went_to(scene) == {"p0": [], "d": ["r.0.s"]}
    why = whys(scene)
    assert why["division"] == "whole_sooner"
    assert why["whole"]["ttft_s"] < why["apart"]["ttft_s"]


async def test_a_long_rest_is_not_even_if_that_were_sooner() -> None:
    scene = scene_of()
    up(scene, P0, D)
    scene.submit(**prompt(1, 1024))
    assert went_to(scene)["p0"] == ["r.0.p"]
    assert whys(scene)["division"] in ("disaggregated", "disaggregated_for_tpot")


@pytest.mark.parametrize(("mode", "leg"), [("always", "r.0.p"), ("never", None)])
async def test_settings_have_the_last_word(mode: str, leg: str | None) -> None:
    scene = scene_of(disaggregate=mode)
    up(scene, P0, D, holding={"d": blocks(1)[:127]})
    scene.submit(**prompt(1))
    assert went_to(scene)["p0"] == ([leg] if leg else [])


async def test_decode_goes_where_there_is_room() -> None:
    scene = scene_of()
    up(scene, P0, D, D2)
    tell(scene, "d", kv_used=0.999, running=1)
    tell(scene, "e", kv_used=0.2, running=9)
    scene.submit(**prompt(1))
    assert went_to(scene)["e"] == ["r.0.d"]
    assert whys(scene)["decode"]["why"] == "only_room"
    assert scene.sample("baton_decode_choices_total", reason="only_room") == 1


# --- refusals and nonsense ------------------------------------------------------------------------


async def test_nobody_is_a_typed_refusal() -> None:
    scene = scene_of(disaggregate="always")
    assert refused(scene.submit).reason is Reason.NO_WORKER
    up(scene, D)
    assert refused(scene.submit).reason is Reason.NO_WORKER
    scene.view(member(D), member(P0, WorkerState.DRAINING))
    scene.frame("p0")
    assert refused(scene.submit).reason is Reason.DRAINING
    assert scene.heart.inflight == 0


@pytest.mark.parametrize(
    "coefficients", [[math.nan, 0.0, 0.0], [-1.0, 0.0, 0.0], [math.inf] * 3, [1.0], [1.0] * 9]
)
async def test_nonsense_of_a_worker_is_counted_and_ignored(coefficients: list[float]) -> None:
    scene = scene_of(ask="never")
    up(scene, P0, D)
    costs = pb.Costs(prefill=pb.Fit(coefficients=coefficients, samples=99))
    scene.frame("p0", news={"costs": costs}, queue_s=math.nan, kv_used=-7.0, step_s=-math.inf)
    assert scene.sample("baton_worker_news_unusable_total", kind="costs") == 1
    scene.submit(**prompt(1))
    assert went_to(scene)["p0"] == ["r.0.p"]
    assert whys(scene)["prefill"]["candidates"][0]["queue_s"] == 0


async def test_a_worker_that_claims_more_than_any_machine_holds_is_not_believed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("router.caches._BLOCKS_MAX", 10)
    scene = scene_of(ask="never")
    up(scene, P0, D, holding={"p0": blocks(1)})
    assert scene.heart.status()["routing"]["problems"] == {"full": 1, "costs": 0}
    scene.submit(**prompt(1))
    assert went_to(scene)["p0"] == ["r.0.p"]


@pytest.mark.parametrize("jump_s", [-1e6, 1e6])
async def test_a_clock_that_jumps_loses_nothing(jump_s: float) -> None:
    scene = scene_of(request_timeout_s=1e9)
    up(scene, P0, P1, D)
    scene.submit("a", **prompt(1))
    scene.clock._now_s += jump_s  # A `ManualClock` does not move back by itself.
    scene.submit("b", **prompt(2))
    for _ in range(3):
        scene.heart.tick(scene.clock.now())
        scene.frame("p0")
        scene.frame("p1")
        scene.clock.advance(0.06)
    assert sum(len(legs) for name, legs in went_to(scene).items() if name != "d") == 2
    assert scene.front.failed == []


async def test_slots_are_used_again_and_keys_move_only_with_the_members() -> None:
    scene = scene_of(ask="never")
    up(scene, P0, P1, D)
    scene.view(member(P0), member(D))
    fresh = info("p9", Role.PREFILL, dispatch=Dispatch.CONCURRENT)
    scene.view(member(P0), member(fresh), member(D))
    tell(scene, "p0")
    scene.frame("p9")
    tell(scene, "p9", blocks(1))
    scene.submit(**prompt(1))
    assert went_to(scene)["p9"] == ["r.0.p"]
    assert set(whys(scene)["homes"]) == {"p0", "p9"}


async def test_predictions_are_held_against_what_happens() -> None:
    scene = scene_of()
    up(scene, P0, D)
    scene.submit(**prompt(1))
    scene.clock.advance(2.5)
    scene.frame("p0", prefilled=["r.0.p"])
    assert scene.sample("baton_prefill_prediction_error_seconds_count") == 1
    assert scene.sample("baton_prefill_prediction_error_seconds_sum") == pytest.approx(1.466)
    assert scene.sample("baton_worker_prediction_error_ratio", worker="p0", work="prefill") == 0.04
