"""Admission in the router: limits, predicted overload, places taken, nothing left behind."""

from __future__ import annotations

from zlib import crc32

import pytest

from baton.errors import BatonError, Reason
from baton.settings import Settings
from router.caller import Caller
from router.policy.tenants import Priority
from tests.unit.router.fakes import Scene, refused
from tests.unit.router.planner_kit import P0, D, prompt, tell, up

# One prompt of 2,048 tokens takes 1.034 s by the costs that the workers tell.
SLO = {"ttft_s": 4.0, "ttft_s_per_1000_tokens": 0.0, "tpot_s": 10.0}


def scene_of(tenants=None, shed_at=1.0, policy="affinity", **router) -> Scene:
    settings = {
        "router": {"ask": "never", "queue_ahead_s": 1.0, "policy": policy, **router},
        "admission": {"shed_at": shed_at, "tenants": tenants or {}},
        "slo": SLO,
    }
    scene = Scene(Settings.model_validate(settings))
    up(scene, P0, D)
    return scene


def submit(scene: Scene, name: str, tenant: str = "default") -> None:
    scene.submit(name, caller=Caller(tenant), **prompt(1000 + crc32(name.encode()) % 1000))


def fill(scene: Scene, tenant: str = "default") -> list[str]:
    """Requests of one tenant until no more is let in."""
    names = []
    for number in range(50):
        name = f"{tenant}-{number}"
        try:
            scene.submit(name, caller=Caller(tenant), **prompt(number))
        except BatonError:
            return names
        names.append(name)
    raise AssertionError("nobody was refused")


def test_the_queue_is_as_long_as_the_promise_allows() -> None:
    scene = scene_of()
    names = fill(scene)
    # Four seconds, of which the request's own prompt takes one.
    assert len(names) == 4
    error = refused(submit, scene, "late")
    assert (error.reason, error.rule.http_status) == (Reason.QUEUE_FULL, 429)
    assert error.retry_after_s is not None
    assert error.retry_after_s >= 1.0
    assert scene.heart.status()["refused"]["queue_full"] == 2


def test_nobody_is_refused_where_nothing_is_shed() -> None:
    scene = scene_of(shed_at=0.0)
    for number in range(50):
        scene.submit(f"r{number}", **prompt(number))


def test_a_tenant_within_its_share_gets_in_however_long_the_queue_of_another() -> None:
    scene = scene_of(tenants={"big": {}, "small": {}})
    fill(scene, "big")
    with scene.heart.door.knock(Caller("small")) as door_pass:
        caller = Caller("small", door_pass=door_pass)
        scene.submit("mine", caller=caller, **prompt(7))
        assert not door_pass.open
    assert scene.front.reasons == {}
    assert scene.sample("baton_tenant_requests_total", tenant="small", outcome="admitted") == 1
    assert scene.sample("baton_tenant_requests_total", tenant="big", outcome="queue_full") >= 1


def test_what_would_be_refused_is_refused_before_it_is_read() -> None:
    scene = scene_of()
    with knocking(scene):
        fill(scene)
    assert refused(knocking(scene).__enter__).reason is Reason.QUEUE_FULL
    assert scene.heart.status()["refused"]["queue_full"] == 2


def knocking(scene: Scene):
    return scene.heart.door.knock(Caller())


def test_limits_of_a_tenant_are_its_own() -> None:
    tenants = {"one": {"concurrent_requests": 1}, "rate": {"requests_per_minute": 2}}
    scene = scene_of(tenants=tenants, shed_at=0.0)
    submit(scene, "a", "one")
    error = refused(submit, scene, "b", "one")
    assert (error.reason, error.rule.http_status) == (Reason.TENANT_LIMIT, 429)
    refused(scene.heart.admit, 1, Caller("one"))
    scene.heart.abort(["a"])
    submit(scene, "c", "one")
    for name in "de":
        submit(scene, name, "rate")
    error = refused(submit, scene, "f", "rate")
    assert error.retry_after_s == pytest.approx(30.0)
    submit(scene, "g", "somebody")


def test_limits_hold_under_every_policy() -> None:
    for policy in ("least_loaded", "round_robin"):
        scene = scene_of({"one": {"concurrent_requests": 1}}, policy=policy)
        submit(scene, "a", "one")
        assert refused(submit, scene, "b", "one").reason is Reason.TENANT_LIMIT


def test_limits_are_divided_among_the_routers_of_a_host() -> None:
    tenants = {"one": {"requests_per_minute": 4, "concurrent_requests": 3}}
    scene = scene_of(tenants, shed_at=0.0, routers=2)
    for name in "ab":
        submit(scene, name, "one")
    assert refused(submit, scene, "c", "one").reason is Reason.TENANT_LIMIT


def test_who_is_refused_leaves_nothing_and_who_ends_leaves_nothing() -> None:
    scene = scene_of(tenants={"big": {}, "small": {}})
    names = fill(scene, "big")
    for number in range(20):
        refused(submit, scene, f"again{number}", "big")
    submit(scene, "mine", "small")
    scene.heart.abort([*names, "mine"])
    status = scene.heart.status()
    assert status["tenants"] == {}
    assert status["inflight_requests"] == 0
    for _ in range(2):
        tell(scene, "p0", queue_s=0.0)
    # One less than at first: what p0 takes to compute a prompt is counted from its last report on.
    assert len(fill(scene, "big")) >= len(names) - 1


def test_a_computed_prompt_makes_room() -> None:
    scene = scene_of()
    names = fill(scene)
    scene.frame("p0", prefilled=[f"{names[0]}.0.p"])
    tell(scene, "p0", queue_s=0.0)
    scene.heart.tick(scene.clock.now())
    submit(scene, "next")


def test_low_priority_asked_for_in_a_header_waits_for_others() -> None:
    scene = scene_of()
    names = fill(scene)
    scene.heart.abort(names[2:])
    low = {"caller": Caller(priority=Priority.LOW)}
    error = refused(lambda: scene.submit("low", **low, **prompt(77)))
    assert error.reason is Reason.QUEUE_FULL
    submit(scene, "normal")


def test_a_request_that_is_placed_again_is_not_weighed_again() -> None:
    scene = scene_of()
    names = fill(scene)
    scene.frame("p0", ended=[(f"{names[0]}.0.p", "worker_full", 0.0)])
    assert scene.front.failed == []


def test_a_higher_priority_goes_first_where_requests_wait() -> None:
    vip = {"vip": {"priority": "high"}}
    scene = scene_of(tenants=vip, shed_at=0.0, disaggregate="always")
    for _ in range(2):
        tell(scene, "p0", queue_s=9.0)
    for name, caller in (
        ("low", Caller(priority=Priority.LOW)),
        ("normal", Caller()),
        ("high", Caller("vip")),
    ):
        scene.submit(name, caller=caller, **prompt(crc32(name.encode()) % 1000))
    went = []
    for _ in range(6):
        scene.clock.advance(0.1)
        tell(scene, "p0", queue_s=0.5)
        went = [leg.leg_id for leg in scene.links["p0"].submits]
    assert went == ["high.0.p", "normal.0.p", "low.0.p"]


def test_a_class_that_is_promised_less_waits_longer_before_it_is_refused() -> None:
    settings = {
        "router": {"ask": "never", "queue_ahead_s": 1.0, "policy": "affinity"},
        "admission": {"shed_at": 1.0, "tenants": {"a": {}, "b": {"slo_class": "batch"}}},
        "slo": {**SLO, "classes": {"batch": {"ttft_s": 12.0}}},
    }
    scene = Scene(Settings.model_validate(settings))
    up(scene, P0, D)
    assert len(fill(scene, "a")) == 4
    scene = Scene(Settings.model_validate(settings))
    up(scene, P0, D)
    assert len(fill(scene, "b")) == 12
