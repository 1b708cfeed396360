"""vLLM's scheduler says of a step what `engine` reads. No engine runs here."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from vllm.config import ParallelConfig
from vllm.distributed.kv_events import (
    MEDIUM_GPU,
    BlockStored,
    EventBatch,
    EventPublisher,
    NullEventPublisher,
)
from vllm.v1.core.sched.output import CachedRequestData, NewRequestData, SchedulerOutput
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.engine import EngineCoreEventType, EngineCoreOutputs
from vllm.v1.metrics.stats import (
    KV_FETCH_COMPLETED_WAITING,
    KV_FETCH_IN_PROGRESS,
    KV_FETCH_WAITING_TO_START,
    PrefillStats,
    SchedulerStats,
)
from vllm.v1.request import Request

from engine import inside
from engine.step_work import STEP_KEY, StepReader, unpacked, work_of
from tests.engine.test_contract_cache import BLOCK, SPEC, TOKENS, Cache, groups, keys


def new_request(name: str, before: int) -> NewRequestData:
    return NewRequestData(
        req_id=name,
        prompt_token_ids=[1] * 100,
        mm_features=[],
        sampling_params=None,
        pooling_params=None,
        block_ids=([1],),
        num_computed_tokens=before,
        lora_request=None,
    )


def test_a_schedulers_output_says_what_a_step_computes() -> None:
    old = CachedRequestData.make_empty()
    old.req_ids, old.num_computed_tokens = ["b"], [30]
    step = SchedulerOutput.make_empty()
    step.scheduled_new_reqs = [new_request("a", 40)]
    step.scheduled_cached_reqs = old
    step.num_scheduled_tokens = {"a": 20, "b": 1}
    step.total_num_scheduled_tokens = 21
    request = Cache().request(TOKENS)
    assert isinstance(request.prefill_stats, PrefillStats)
    request.prefill_stats.set(100, 40, 0)
    work = work_of(step, {"a": request})
    assert work is not None
    assert (work.prompts, work.new_tokens, work.pairs) == (20 / 60, 20, 20 * 50)
    assert (work.decodes, work.kv_tokens) == (1, 30)
    assert work_of(SchedulerOutput.make_empty(), {}) is None


class Stepping:
    """Takes the place of vLLM's scheduler: one step, whose statistics it has made."""

    def __init__(self, stats: SchedulerStats) -> None:
        self.requests: dict[str, Request] = {}
        self.kv_event_publisher: EventPublisher = NullEventPublisher()
        self.stats = stats
        self.stages: list[str | None] = []
        found = groups(SPEC)
        self.kv_cache_config, self.cache_config = found.kv_cache_config, found.cache_config
        self.vllm_config = found.vllm_config
        self.vllm_config.parallel_config = ParallelConfig()

    def schedule(self) -> SchedulerOutput:
        step = SchedulerOutput.make_empty()
        step.scheduled_new_reqs = [new_request("a", 0)]
        step.num_scheduled_tokens, step.total_num_scheduled_tokens = {"a": 100}, 100
        return step

    def _set_kv_fetch_stage(self, request: Request, stage: str | None) -> None:
        self.stages.append(stage)

    def update_from_output(self, step: Any, output: Any) -> dict[int, EngineCoreOutputs]:
        stored = BlockStored([b"a"], None, [1, 2, 3, 4], BLOCK, None, MEDIUM_GPU, None)
        self.kv_event_publisher.publish(EventBatch(0.0, [stored]))
        return {0: EngineCoreOutputs(scheduler_stats=self.stats), 1: EngineCoreOutputs()}

    def has_unfinished_requests(self) -> bool:
        return False


class Mixed(inside.BatonSchedulerMixin, Stepping):
    """The mixin on top of it."""


@pytest.mark.parametrize("others", [None, {"connector": 1}])
def test_a_step_is_told_with_any_connector_and_without_one(others: dict[str, Any] | None) -> None:
    scheduler = Mixed(SchedulerStats(kv_connector_stats=others))
    scheduler.update_from_output(scheduler.schedule(), None)
    told = scheduler.stats.kv_connector_stats
    assert told is not None
    assert {**told, STEP_KEY: None} == {**(others or {}), STEP_KEY: None}
    report = StepReader().read(told)
    assert report.work is not None
    assert (report.work.prompts, report.work.new_tokens) == (1.0, 100)
    assert report.work.seconds > 0
    assert set(unpacked(report.stored)) == keys([1, 2, 3, 4])
    assert report.block_bytes > 0


def test_fetching_kv_is_told_as_two_more_times_of_queueing() -> None:
    scheduler, request = Mixed(SchedulerStats()), Cache().request(TOKENS)
    request.take_events()
    stages = [KV_FETCH_WAITING_TO_START, KV_FETCH_IN_PROGRESS, KV_FETCH_COMPLETED_WAITING, None]
    for stage in stages:
        scheduler._set_kv_fetch_stage(request, stage)
    assert scheduler.stages == stages
    assert [event.type.name for event in request.take_events()] == ["QUEUED", "QUEUED"]


def test_vllms_scheduler_names_the_stages_of_fetching() -> None:
    """When there are blocks for the KV, and when it has come."""
    names = list(inspect.signature(Scheduler._set_kv_fetch_stage).parameters)
    assert names == ["self", "request", "stage"]
    for function, stage in (
        (Scheduler.schedule, "KV_FETCH_IN_PROGRESS"),
        (Scheduler._update_from_kv_xfer_finished, "KV_FETCH_COMPLETED_WAITING"),
    ):
        assert f", {stage})" in inspect.getsource(function)
    assert {"QUEUED", "SCHEDULED"} <= EngineCoreEventType.__members__.keys()
