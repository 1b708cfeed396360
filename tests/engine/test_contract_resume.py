"""vLLM takes outputs that a request has when it comes as `engine` takes it to. No engine runs
here."""

from __future__ import annotations

import inspect
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from vllm.sampling_params import SamplingParams
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.engine import EngineCoreOutput, EngineCoreRequest, FinishReason
from vllm.v1.kv_cache_interface import KVCacheConfig, KVCacheGroupSpec
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request
from vllm.v1.structured_output import StructuredOutputManager
from vllm.v1.worker import gpu_model_runner
from vllm.v1.worker.gpu_input_batch import InputBatch
from vllm.v1.worker.worker_base import WorkerBase

from baton.errors import BatonError
from baton.settings import Settings
from deploy.model import DEMO_MODEL
from engine import core, inside
from engine.ports import EngineFacts
from engine.resuming import RESUMED_KEY, resumed_in
from engine.spec import EngineSpec
from tests.engine.test_contract import HANDOFF, RICH, TICKET, bare_core, encoded, request
from tests.engine.test_contract_cache import BLOCK, BLOCKS, SPEC, Cache

PROMPT, RESUMED = [1, 2, 3, 4, 5], [6, 7, 8, 9]
MAX_TOKENS = 7


def known() -> EngineFacts:
    return EngineFacts(50, BLOCK, BLOCKS, "float32", "cpu", "", 1, vocabulary=100)


def resumed_request(name: str = "a", **params: Any) -> EngineCoreRequest:
    sampling = SamplingParams(**{"max_tokens": MAX_TOKENS, **params})
    sent = request(prompt_token_ids=PROMPT, sampling_params=sampling)
    engine = bare_core()
    engine._facts = known()
    return engine.decode_request(encoded(sent), name, None, RESUMED)


# --- the request ----------------------------------------------------------------------------------


def test_a_prefill_leg_computes_what_is_resumed_as_part_of_its_prompt() -> None:
    engine, sent = bare_core(), request(sampling_params=SamplingParams(max_tokens=5))
    params = HANDOFF.prefill_params(TICKET)
    engine._facts = known()
    found = engine.prefill_request(encoded(sent), "a.0.p", params, (7, 8))
    assert found.prompt_token_ids == [1, 2, 3, 7, 8]
    assert found.sampling_params.max_tokens == 1
    for unfit in (RICH, SamplingParams(max_tokens=2)):
        with pytest.raises(BatonError):
            engine.prefill_request(encoded(request(sampling_params=unfit)), "a", params, (7, 8))


def test_only_the_router_says_what_is_resumed() -> None:
    engine = bare_core()
    engine._facts = known()
    sent = SamplingParams(max_tokens=5, prompt_logprobs=2, extra_args={RESUMED_KEY: [9], "a": 1})
    payload = encoded(request(sampling_params=sent))
    found = engine.decode_request(payload, "a", None).sampling_params
    assert (found.extra_args, found.prompt_logprobs) == ({"a": 1}, 2)
    found = engine.decode_request(payload, "a", None, (7, 8)).sampling_params
    # Those of the prompt have been told with the first token.
    assert (found.extra_args, found.prompt_logprobs) == ({"a": 1, RESUMED_KEY: [7, 8]}, None)
    assert resumed_in(found) == [7, 8]


def test_requests_have_the_fields_that_decide_whether_they_are_resumed() -> None:
    params = SamplingParams()
    for name in ("structured_outputs", "seed", "temperature", "max_tokens", "stop_token_ids"):
        assert hasattr(params, name)
    params.update_from_generation_config({}, 5)
    assert params.eos_token_id == 5


# --- the scheduler --------------------------------------------------------------------------------


class Loop:
    """A scheduler of ours, and a model that answers 20, 21, ...; `ahead` steps are in flight."""

    def __init__(self, kind: Any, ahead: int) -> None:
        settings = Settings.model_validate({"engine": {"block_size_tokens": BLOCK}})
        config = core.engine_config(EngineSpec(DEMO_MODEL, "demo", "cpu", "float32", settings, {}))
        config.cache_config.num_gpu_blocks = BLOCKS
        config.scheduler_config.async_scheduling = ahead > 0
        cache = KVCacheConfig(BLOCKS, [], [KVCacheGroupSpec(["layer"], SPEC)])
        self.scheduler = kind(config, cache, StructuredOutputManager(config), block_size=BLOCK)
        self.hasher = Cache().hasher
        self.ahead = ahead
        self.steps: list[SchedulerOutput] = []
        self.outputs: list[EngineCoreOutput] = []
        self.tokens = count(20)

    def add(self, asked: EngineCoreRequest) -> Request:
        added = Request.from_engine_core_request(asked, self.hasher)
        self.scheduler.add_request(added)
        return added

    def run(self) -> None:
        flying: list[SchedulerOutput] = []
        while self.scheduler.has_unfinished_requests():
            flying.append(self.scheduler.schedule())
            self.steps.append(flying[-1])
            if len(flying) > self.ahead:
                self._end(flying.pop(0))

    def _end(self, step: SchedulerOutput) -> None:
        names = list(step.num_scheduled_tokens)
        sampled = [[next(self.tokens)] for _ in names]
        found = ModelRunnerOutput(names, {name: i for i, name in enumerate(names)}, sampled)
        for each in self.scheduler.update_from_output(step, found).values():
            self.outputs += each.outputs


@pytest.fixture(params=[(inside.BatonScheduler, 0), (inside.BatonAsyncScheduler, 1)])
def loop(request: pytest.FixtureRequest) -> Loop:
    return Loop(*request.param)


def test_they_are_outputs_and_only_new_ones_are_told(loop: Loop) -> None:
    added = loop.add(resumed_request())
    loop.run()
    assert list(added.output_token_ids) == [*RESUMED, 20, 21, 22]
    assert [o.new_token_ids for o in loop.outputs] == [[20], [21], [22]]
    assert loop.outputs[-1].finish_reason is FinishReason.LENGTH
    first, second, *_ = loop.steps
    (new,) = first.scheduled_new_reqs
    assert first.num_scheduled_tokens == {"a": len(PROMPT) + len(RESUMED)}
    assert (new.prompt_token_ids, new.num_computed_tokens) == (PROMPT, 0)
    assert new.sampling_params is not None
    assert new.sampling_params.extra_args == {RESUMED_KEY: RESUMED}
    assert second.scheduled_cached_reqs.num_output_tokens == [len(RESUMED) + 1]


def test_what_is_cached_may_reach_into_them(loop: Loop) -> None:
    """Otherwise an assertion ends the engine process."""
    loop.add(request(prompt_token_ids=[*PROMPT, *RESUMED]))
    loop.run()
    loop.outputs.clear()
    loop.steps.clear()
    loop.add(resumed_request())
    loop.run()
    (new,) = loop.steps[0].scheduled_new_reqs
    assert new.num_computed_tokens == 2 * BLOCK > len(PROMPT)
    assert loop.outputs[0].prefill_stats is None
    assert "assert num_computed_tokens <= request.num_prompt_tokens" in inspect.getsource(
        Scheduler.schedule
    )


def test_one_that_is_preempted_keeps_them(loop: Loop) -> None:
    both = [loop.add(resumed_request(name, max_tokens=24)) for name in ("a", "b")]
    loop.run()
    assert any(step.scheduled_cached_reqs.resumed_req_ids for step in loop.steps)
    for one in both:
        told = [t for o in loop.outputs if o.request_id == one.request_id for t in o.new_token_ids]
        assert list(one.output_token_ids) == [*RESUMED, *told]
        assert len(told) == 24 - len(RESUMED)


class Arriving:
    """Takes the place of vLLM's scheduler below the mixin, where a connector hears of requests."""

    def __init__(self) -> None:
        self.requests: dict[str, Request] = {}
        self.tokens = 0

    def add_request(self, added: Request) -> None:
        self.tokens = added.num_tokens


class Mixed(inside.BatonSchedulerMixin, Arriving):
    """The mixin on top of it."""

    def __init__(self) -> None:
        Arriving.__init__(self)


def test_a_connector_hears_of_all_tokens() -> None:
    scheduler = Mixed()
    scheduler.add_request(Request.from_engine_core_request(resumed_request(), None))
    assert scheduler.tokens == len(PROMPT) + len(RESUMED)
    assert "self.connector.on_new_request(request)" in inspect.getsource(Scheduler.add_request)


def test_the_second_runner_is_told_all_tokens(loop: Loop) -> None:
    loop.scheduler.use_v2_model_runner = True
    loop.add(resumed_request())
    (new,) = loop.scheduler.schedule().scheduled_new_reqs
    assert new.prefill_token_ids == [*PROMPT, *RESUMED]


# --- the first runner -----------------------------------------------------------------------------


def state(asked: EngineCoreRequest) -> inside.ResumedState:
    """As the runner makes it."""
    return inside.ResumedState(
        req_id=asked.request_id,
        prompt_token_ids=asked.prompt_token_ids,
        mm_features=[],
        sampling_params=asked.sampling_params,
        generator=None,
        block_ids=([1, 2, 3],),
        num_computed_tokens=0,
        output_token_ids=[],
    )


def test_a_new_request_has_them_in_the_batch() -> None:
    batch = InputBatch(2, 50, 50, torch.device("cpu"), 100, [BLOCK], [BLOCKS])
    asked = resumed_request(frequency_penalty=1.0)
    one = state(asked)
    batch.add_request(one)
    batch.refresh_metadata()
    assert batch.token_ids_cpu[0, : one.num_tokens].tolist() == [*PROMPT, *RESUMED]
    assert one.num_tokens == len(PROMPT) + len(RESUMED)
    assert batch.sampling_metadata.output_token_ids == [RESUMED]
    assert batch.num_tokens_no_spec[0] == one.num_tokens
    # With steps ahead what was sampled takes the place of this one.
    one.output_token_ids.append(-1)
    batch.prev_req_id_to_index = {"a": 0}
    batch.set_async_sampled_token_ids(torch.tensor([[20]]), SimpleNamespace(synchronize=int))  # type: ignore[arg-type]
    batch.update_async_output_token_ids()
    assert one.output_token_ids == [*RESUMED, 20]
    assert state(asked).output_token_ids == RESUMED
    assert state(request(request_id="b")).output_token_ids == []


def test_the_runner_makes_its_requests_of_what_is_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = inspect.getsource(gpu_model_runner.GPUModelRunner._update_states)
    assert "req_state = CachedRequestState(" in source
    assert "self.requests[req_id] = req_state" in source
    original = gpu_model_runner.CachedRequestState
    monkeypatch.setattr(gpu_model_runner, "CachedRequestState", original)
    worker = inside.DeviceWorkerExtension()
    for second, wanted in ((True, original), (False, inside.ResumedState)):
        worker.vllm_config = SimpleNamespace(use_v2_model_runner=second)
        worker.begin_with_resumed()
        assert gpu_model_runner.CachedRequestState is wanted
    assert "vllm_config" in inspect.signature(WorkerBase.__init__).parameters
