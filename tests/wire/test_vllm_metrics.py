"""What vLLM measures of one engine is counted as vLLM's own front end would, and is on the page."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import REGISTRY

from baton.settings.model import Settings
from deploy.dashboards.files import DASHBOARDS
from deploy.dashboards.promql import names
from tests.unit.deploy.dashboards.test_files import queries, series
from tests.wire.http.support import DEMO

pytestmark = pytest.mark.wire
LABELS = {"model_name": "demo", "engine": "0"}


@pytest.fixture(scope="module")
def metrics() -> Any:
    from vllm.config import KVTransferConfig

    from engine.vllm_metrics import EngineMetrics
    from router.http import device_less_config, front_args

    settings = Settings.model_validate({"model": {"served_name": "demo"}})
    config = device_less_config(front_args(settings, DEMO))
    # vLLM's connector counts, too, and wants all its figures where there are any.
    config.kv_transfer_config = KVTransferConfig(kv_connector="NixlConnector", kv_role="kv_both")
    return EngineMetrics(config)


def _request(leg_id: str, prompt: int, max_tokens: int) -> Any:
    from vllm.sampling_params import SamplingParams
    from vllm.v1.engine import EngineCoreRequest

    return EngineCoreRequest(
        request_id=leg_id,
        prompt_token_ids=[1] * prompt,
        mm_features=None,
        sampling_params=SamplingParams(max_tokens=max_tokens),
        pooling_params=None,
        arrival_time=time.time(),
        lora_request=None,
        cache_salt=None,
        data_parallel_rank=None,
    )


def _step(*legs: tuple[str, int, Any], at: float, **stats: Any) -> Any:
    """A step in which each leg gets so many tokens, and ends that way."""
    from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs
    from vllm.v1.metrics.stats import SchedulerStats

    outputs = [
        EngineCoreOutput(request_id=leg, new_token_ids=[7] * tokens, finish_reason=end)
        for leg, tokens, end in legs
    ]
    return EngineCoreOutputs(outputs=outputs, timestamp=at, scheduler_stats=SchedulerStats(**stats))


def _value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"vllm:{name}", {**LABELS, **labels}) or 0.0


def test_steps_and_legs_are_counted(metrics: Any) -> None:
    from vllm.v1.engine import FinishReason

    metrics.took(_request("a", 10, 5))
    metrics.took(_request("b", 20, 5))
    metrics.stepped(_step(("a", 1, None), ("b", 1, None), at=1.0, num_running_reqs=2))
    assert _value("num_requests_running") == 2
    metrics.stepped(
        _step(("a", 2, FinishReason.LENGTH), ("b", 1, None), at=1.5, kv_cache_usage=0.25)
    )
    assert _value("num_requests_running") == 0
    assert _value("kv_cache_usage_perc") == 0.25
    assert _value("generation_tokens_total") == 5
    assert _value("inter_token_latency_seconds_count") == 2
    assert _value("inter_token_latency_seconds_sum") == 1.0
    assert _value("time_to_first_token_seconds_count") == 2
    assert _value("request_success_total", finished_reason="length") == 1
    assert _value("request_prompt_tokens_sum") == 10


def test_a_leg_that_is_aborted_is_forgotten_and_strangers_are_not_counted(metrics: Any) -> None:
    before = _value("generation_tokens_total")
    metrics.took(_request("gone", 10, 5))
    metrics.dropped(["gone", "never"])
    metrics.stepped(_step(("gone", 3, None), ("stranger", 3, None), at=2.0))
    assert _value("generation_tokens_total") == before


def test_what_batons_scheduler_adds_does_no_harm(metrics: Any) -> None:
    metrics.stepped(_step(at=3.0, num_waiting_reqs=4, kv_connector_stats={"baton_step": {"x": 1}}))
    assert _value("num_requests_waiting") == 4


def _asked() -> Iterator[str]:
    for dashboard in DASHBOARDS:
        for query in queries(dashboard):
            yield from (name for name in names(query) if name.startswith("vllm:"))


@pytest.mark.usefixtures("metrics")
def test_each_metric_of_vllm_that_a_dashboard_asks_for_is_there() -> None:
    asked = {*_asked()}
    assert len(asked) > 10
    assert asked - {*series(REGISTRY)} == set()
