"""What scaling is told: put together from a real router's parts, on a clock of the test's own."""

from __future__ import annotations

import dataclasses

import pytest

from baton.messages import Role, WorkerState
from baton.settings import Settings
from baton.signals import PoolSignals, RouterSignals
from baton.wire import worker_pb2 as pb
from tests.unit.router.fakes import Scene, member, refused
from tests.unit.router.planner_kit import BLOCK, P0, P1, D, blocks, prompt, tell, up

KV_TOKENS = 10_000 * BLOCK
# By the costs that the workers tell: 10 ms, and half a millisecond for each token.
PROMPT_S = 0.01 + 0.0005 * 2048


def scene_of(policy: str = "affinity", **admission) -> Scene:
    settings = {
        "router": {"policy": policy, "ask": "never", "max_inflight_requests": 100},
        "admission": {"shed_at": 0, **admission},
        "slo": {"ttft_s": 2.0, "ttft_s_per_1000_tokens": 0.0, "tpot_s": 0.1},
    }
    return Scene(Settings.model_validate(settings))


def measured(scene: Scene) -> RouterSignals:
    """After a moment in which the router may look around."""
    scene.clock.advance(1.0)
    for name in scene.links:
        scene.frame(name)
    scene.heart.tick(scene.clock.now())
    return scene.heart.signals()


def test_a_router_that_has_seen_nothing_knows_nothing() -> None:
    scene = scene_of()
    assert scene.heart.signals() == RouterSignals(PoolSignals(), PoolSignals())
    assert measured(scene) == RouterSignals(PoolSignals(), PoolSignals())


def test_idle_workers_say_how_they_are_and_no_more() -> None:
    scene = scene_of()
    up(scene, P0, D)
    idle = PoolSignals(kv_used=0.0)
    assert measured(scene) == RouterSignals(idle, idle)


def test_a_request_is_work_for_both_pools() -> None:
    scene = scene_of()
    up(scene, P0, D)
    scene.submit(max_tokens=100, **prompt(1))
    signals = measured(scene)
    assert signals.prefill.arriving_tokens_per_s == 2048 / 5
    assert signals.prefill.worker_tokens_per_s == pytest.approx(2048 / PROMPT_S)
    assert signals.decode.arriving_tokens_per_s == 100 / 5
    # Steps of 20 ms whatever the batch: memory is the limit.
    assert signals.decode.worker_tokens_per_s == pytest.approx(KV_TOKENS / 2098 / 0.02)
    assert signals.decode.predicted == pytest.approx(0.2)
    assert signals.waiting == 0


def test_what_is_cached_there_is_no_work() -> None:
    scene = scene_of()
    up(scene, P0, D, holding={"p0": blocks(1)[:64]})
    scene.submit(**prompt(1))
    assert measured(scene).prefill.arriving_tokens_per_s == 1024 / 5


def test_what_no_prefill_worker_may_have_is_no_work_for_one() -> None:
    scene = scene_of()
    up(scene, P0, D)
    scene.submit(may_disaggregate=False, **prompt(1))
    signals = measured(scene)
    assert (signals.prefill.arriving_tokens_per_s, signals.prefill.worker_tokens_per_s) == (0, 0)
    assert signals.decode.arriving_tokens_per_s > 0


def test_of_all_that_still_send_kv_the_slowest_counts() -> None:
    scene = scene_of()
    up(scene, P0, P1, D)
    for peer, backlog_s in ((P0, 0.4), (P1, 1.5)):
        frame = pb.StepFrame(load=pb.Load(), transfer=pb.Transfer(backlog_s=backlog_s))
        scene.heart.on_frame(peer.worker_id, frame)
    assert measured(scene).transfer_backlog_s == 1.5


def test_a_missing_prefill_pool_is_missed() -> None:
    scene = scene_of()
    up(scene, D)
    scene.submit(**prompt(1))
    signals = measured(scene)
    assert signals.prefill.arriving_tokens_per_s == 2048 / 5
    assert (signals.prefill.worker_tokens_per_s, signals.prefill.kv_used) == (0, None)


def test_work_that_waits_here_and_there() -> None:
    scene = scene_of()
    up(scene, P0, D)
    for number in range(4):
        scene.submit(f"r{number}", **prompt(number))
    scene.heart.tick(scene.clock.now())
    signals = scene.heart.signals()
    # One more than a second's work is ahead of a worker before it gets nothing more.
    assert signals.waiting == 3
    assert signals.prefill.waiting_s == pytest.approx(3 * PROMPT_S)
    assert signals.prefill.queued_s == pytest.approx(PROMPT_S)
    predicted_s = 5 * PROMPT_S + 0.001 + 0.002048 + 0.02
    assert signals.prefill.predicted == pytest.approx(predicted_s / 2.0)


def test_what_is_turned_away_counts_once() -> None:
    scene = scene_of()
    refused(scene.heart.admit, 2)
    signals = measured(scene)
    assert min(signals.prefill.arriving_tokens_per_s, signals.decode.arriving_tokens_per_s) > 0
    scene = scene_of()
    refused(lambda: scene.submit(**prompt(1)))
    assert measured(scene).prefill.arriving_tokens_per_s == 2048 / 5


def test_what_the_prediction_turned_away_counts_without_its_hits() -> None:
    scene = scene_of(shed_at=0.01)
    up(scene, P0, D, holding={"p0": blocks(2)[:64]})
    scene.submit("a", **prompt(1))
    refused(lambda: scene.submit("b", **prompt(2)))
    assert measured(scene).prefill.arriving_tokens_per_s == (2048 + 1024) / 5


def test_other_peoples_limits_and_mistakes_are_no_demand() -> None:
    scene = scene_of(tenants={"default": {"requests_per_minute": 1}})
    up(scene, P0, D)
    scene.submit("a", **prompt(1))
    refused(lambda: scene.submit("b", **prompt(2)))
    refused(lambda: scene.submit("a", **prompt(1)))
    scene.heart.drain()
    refused(lambda: scene.submit("c", **prompt(3)))
    assert measured(scene).prefill.arriving_tokens_per_s == 2048 / 5


def test_answers_are_held_against_their_promises() -> None:
    scene = scene_of()
    up(scene, D)
    scene.submit(**prompt(1))
    scene.clock.advance(1.0)
    scene.frame("d", prefilled=["r.0.s"])
    scene.clock.advance(2.0)
    scene.front.tokens["r"] = list(range(21))
    scene.frame("d", done="r.0.s")
    signals = measured(scene)
    assert signals.prefill.attained == (pytest.approx(0.5),)
    assert signals.decode.attained == (pytest.approx(1.0),)


def test_who_was_cut_off_has_no_time_per_token() -> None:
    scene = scene_of()
    up(scene, D)
    scene.submit(**prompt(1))
    scene.frame("d", prefilled=["r.0.s"])
    scene.front.tokens["r"] = [1, 2, 3]
    scene.heart.abort(["r"])
    assert measured(scene).decode.attained == ()


def test_only_what_finds_no_place_waits_for_decode() -> None:
    scene = scene_of()
    up(scene, P0, D)
    scene.submit(max_tokens=100, **prompt(1))
    measured(scene)
    assert _loaded(scene, kv_used=0.5, waiting=3).queued_s == 0
    signals = _loaded(scene, kv_used=1.0, waiting=3)
    assert signals.queued_s == pytest.approx(3 * 100 / signals.worker_tokens_per_s)
    assert signals.kv_used is not None
    assert signals.kv_used >= 1.0


def _loaded(scene: Scene, **load) -> PoolSignals:
    scene.clock.advance(1.0)
    scene.frame("d", **load)
    scene.heart.tick(scene.clock.now())
    return scene.heart.signals().decode


def test_a_lent_worker_is_of_the_pool_it_works_in_and_one_that_drains_of_none() -> None:
    scene = scene_of()
    up(scene, P0, P1, D)
    scene.submit(**prompt(1))
    lent = dataclasses.replace(P1, role=Role.DECODE)
    scene.view(member(P0, WorkerState.DRAINING), member(lent), member(D))
    tell(scene, "p1", kv_used=0.5)
    tell(scene, "d")
    scene.clock.advance(1.0)
    scene.heart.tick(scene.clock.now())
    signals = scene.heart.signals()
    assert (signals.prefill.kv_used, signals.prefill.worker_tokens_per_s) == (None, 0)
    assert signals.decode.kv_used == pytest.approx(0.25, abs=0.02)


def test_silence_grows_though_nobody_looks() -> None:
    scene = scene_of()
    up(scene, P0, D)
    scene.heart.tick(scene.clock.now())
    assert scene.heart.signals().load_age_s == 0
    scene.clock.advance(0.25)
    assert scene.heart.signals().load_age_s == 0.25
    scene.frame("p0")
    scene.clock.advance(0.5)
    scene.heart.tick(scene.clock.now())
    assert scene.heart.signals().load_age_s == 0.75


def test_policies_that_predict_nothing_still_count() -> None:
    scene = scene_of(policy="least_loaded")
    up(scene, P0, D)
    scene.submit(**prompt(1))
    signals = measured(scene)
    assert signals.prefill.arriving_tokens_per_s == 2048 / 5
    assert (signals.prefill.worker_tokens_per_s, signals.prefill.predicted) == (0, None)


def test_both_pools_are_shown_as_metrics() -> None:
    scene = scene_of()
    up(scene, P0, D)
    scene.submit(max_tokens=100, **prompt(1))
    measured(scene)
    arriving = "baton_pool_arriving_tokens_per_second"
    assert scene.sample(arriving, role="prefill") == 2048 / 5
    assert scene.sample(arriving, role="decode") == 100 / 5
    assert scene.sample("baton_pool_worker_tokens_per_second", role="decode") > 0
    assert scene.sample("baton_pool_waiting_seconds", role="prefill") == 0
