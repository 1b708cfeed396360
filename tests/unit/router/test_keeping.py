"""What becomes of requests is held against their tenant's promises, in a whole router."""

from __future__ import annotations

import logging

import pytest
from prometheus_client import openmetrics

from baton.errors import BatonError
from baton.settings import Settings
from baton.spans import SpanContext
from router.caller import Caller
from router.policy.tenants import Priority
from tests.unit.router.fakes import Scene
from tests.unit.router.planner_kit import D, prompt, up

BOTH = {"model": "m", "class": "default", "promise": "both"}


@pytest.fixture
def scene() -> Scene:
    settings = {
        "model": {"served_name": "m"},
        "router": {"policy": "affinity", "ask": "never"},
        "admission": {"shed_at": 0, "tenants": {"slow": {"slo_class": "batch"}}},
        "slo": {
            "ttft_s": 2.0,
            "ttft_s_per_1000_tokens": 0.0,
            "tpot_s": 0.1,
            "classes": {"batch": {"ttft_s": 20.0, "tpot_s": 1.0}},
        },
    }
    one = Scene(Settings.model_validate(settings))
    up(one, D)
    return one


def answer(scene: Scene, name: str = "r", tenant: str = "default", **times: float) -> None:
    """A request that is answered: 4 s until the first of 21 tokens, 4 s for the others."""
    scene.submit(name, caller=Caller(tenant), **prompt(1))
    scene.clock.advance(times.get("ttft_s", 4.0))
    scene.frame("d", prefilled=[f"{name}.0.s"])
    scene.clock.advance(times.get("rest_s", 4.0))
    scene.front.tokens[name] = list(range(21))
    scene.frame("d", done=f"{name}.0.s")


def counted(scene: Scene, promise: str, met: str, slo_class: str = "default") -> float | None:
    labels = {"model": "m", "class": slo_class, "promise": promise, "met": met}
    return scene.sample("baton_slo_requests_total", **labels)


def test_what_ended_is_remembered_for_an_hour_as_figures(scene: Scene) -> None:
    answer(scene, "a")
    scene.clock.advance(3000)
    answer(scene, "b", ttft_s=1.0)
    ages = [row["age_s"] for row in scene.heart.window.recent()]
    assert ages == pytest.approx([3013.0, 5.0])
    row = scene.heart.window.recent()[1]
    assert row["ttft_s"] == pytest.approx(1.0)
    assert row["tpot_s"] == pytest.approx(0.2)
    assert (row["output_tokens"], row["divided"]) == (21, False)
    assert row["prompt_tokens"] > 0
    scene.clock.advance(700)
    assert len(scene.heart.window.recent()) == 1


def test_each_promise_is_counted_by_class(scene: Scene) -> None:
    answer(scene, "a")
    answer(scene, "b", "slow")
    answer(scene, "c", ttft_s=1.0)
    assert [counted(scene, "ttft", met) for met in ("yes", "no")] == [1, 1]
    assert [counted(scene, "tpot", met) for met in ("yes", "no")] == [0, 2]
    assert [counted(scene, "both", met) for met in ("yes", "no")] == [0, 2]
    assert [counted(scene, "both", met, "batch") for met in ("yes", "no")] == [1, 0]


def test_only_what_was_kept_is_goodput(scene: Scene) -> None:
    answer(scene, "a")
    answer(scene, "b", "slow")
    for slo_class, goodput in (("default", 0), ("batch", 21)):
        labels = {"model": "m", "class": slo_class}
        assert scene.sample("baton_goodput_tokens_total", **labels) == goodput
        assert scene.sample("baton_output_tokens_total", **labels) == 21
        assert scene.sample("baton_prompt_tokens_total", **labels) == 2048


def test_tenants_are_counted_and_strangers_are_one_of_them(scene: Scene) -> None:
    answer(scene, "a", "slow")
    answer(scene, "b", "nobody-knows")
    name = "baton_tenant_slo_requests_total"
    assert scene.sample(name, tenant="slow", met="yes") == 1
    assert scene.sample(name, tenant="default", met="no") == 1
    assert scene.sample("baton_tenant_requests_total", tenant="default", outcome="admitted") == 1


def test_shares_and_burn_are_there_once_somebody_was_served(scene: Scene) -> None:
    attained, burning = "baton_slo_attainment_ratio", "baton_error_budget_burn_ratio"
    assert scene.sample(attained, **BOTH, window="5m") is None
    answer(scene, "a")
    answer(scene, "b", ttft_s=1.0, rest_s=1.0)
    assert scene.sample(attained, **BOTH, window="5m") == 0.5
    assert scene.sample(attained, **BOTH, window="6h") is None
    assert scene.sample(burning, **BOTH, window="30m") == pytest.approx(5.0)
    scene.clock.advance(3700)
    assert scene.sample(attained, **BOTH, window="1h") is None
    assert scene.sample(burning, **BOTH, window="6h") == pytest.approx(5.0)


def test_promises_themselves_are_metrics(scene: Scene) -> None:
    labels = {"model": "m", "class": "batch"}
    assert scene.sample("baton_slo_promise_seconds", **labels, promise="tpot") == 1.0
    assert scene.sample("baton_slo_promise_seconds", **BOTH | {"promise": "ttft"}) == 2.0
    assert scene.sample("baton_slo_objective_ratio", **labels) == 0.9


def test_a_lost_worker_breaks_the_promise_and_an_impatient_client_does_not(scene: Scene) -> None:
    scene.submit("a", **prompt(1))
    scene.heart.abort(["a"])
    assert counted(scene, "both", "no") == 0
    scene.submit("b", resumable=False, **prompt(1))
    scene.frame("d", prefilled=["b.0.s"])
    scene.lose("d")
    assert scene.front.reasons == {"b": "worker_lost"}
    assert counted(scene, "both", "no") == 1


def test_signals_for_scaling_are_parts_of_the_promise_of_the_class(scene: Scene) -> None:
    answer(scene, "a", "slow")
    scene.heart.tick(scene.clock.now())
    signals = scene.heart.signals()
    assert signals.prefill.attained == (pytest.approx(0.2),)
    assert signals.decode.attained == (pytest.approx(0.2),)


def test_a_first_token_is_an_example_for_its_trace(scene: Scene) -> None:
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    caller = Caller("default", Priority.HIGH, trace=SpanContext(int(trace_id, 16), 7))
    name = "cmpl-" + "x" * 200
    scene.submit(name, caller=caller, **prompt(1))
    scene.frame("d", prefilled=[f"{name}.0.s"])
    text = openmetrics.exposition.generate_latest(scene.metrics.registry).decode()
    (line,) = [line for line in text.splitlines() if trace_id in line]
    assert line.startswith('baton_time_to_first_token_seconds_bucket{class="default",le="0.01"}')
    assert f'request_id="{name[:64]}"' in line


def test_each_end_is_one_event_with_its_cause(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "router.keeping"):
        answer(scene, "a", "slow")
        scene.submit("b", resumable=False, **prompt(1))
        scene.frame("d", prefilled=["b.0.s"])
        scene.lose("d")
    events = [record for record in caplog.records if record.name == "router.keeping"]
    well, badly = (record.__dict__ for record in events)
    assert (well["levelname"], well["reason"], well["output_tokens"]) == ("DEBUG", "finished", 21)
    assert (badly["levelname"], badly["reason"]) == ("WARNING", "worker_lost")
    assert (badly["request_id"], badly["worker"], badly["tenant"]) == ("b", "d", "default")
    assert "gone" in badly["cause"]


def test_refusals_and_further_attempts_are_events(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    scene.submit("a", **prompt(1))
    with pytest.raises(BatonError):
        scene.submit("a", **prompt(1))
    scene.lose("d")
    told = {record.getMessage(): record.__dict__ for record in caplog.records}
    assert told["request refused"]["reason"] == "duplicate_id"
    again = told["request placed again"]
    assert (again["request_id"], again["worker"], again["reason"]) == ("a", "d", "worker_lost")
    assert (told["lost a worker"]["worker"], told["lost a worker"]["cause"]) == ("d", "gone")
