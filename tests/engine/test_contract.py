"""vLLM's internals are what `engine` and `kv_transfer` take them for. No engine runs here."""

from __future__ import annotations

import asyncio
import inspect
import os
import subprocess
import sys
import textwrap
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import msgspec
import pytest
import vllm
from hypothesis import given
from hypothesis import strategies as st
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, EngineCoreRequest, FinishReason
from vllm.v1.engine.core_client import AsyncMPClient, EngineCoreClient
from vllm.v1.executor.multiproc_executor import MultiprocExecutor
from vllm.v1.executor.uniproc_executor import UniProcExecutor
from vllm.v1.metrics.stats import PrefillStats, SchedulerStats
from vllm.v1.request import Request
from vllm.v1.serial_utils import MsgpackDecoder, MsgpackEncoder

from baton.errors import BatonError, Reason
from baton.messages import Ticket
from baton.settings import Settings
from deploy.model import DEMO_MODEL
from engine import core, inside
from engine.core import EngineCore, _started, engine_config
from engine.device import SUPPORTED_VLLM
from engine.ports import LegEnd
from engine.spec import EngineSpec, engine_args
from engine.step_work import STEP_KEY, StepReader, StepReport, StepWork, packed, to_plain
from engine.transfers import ReportReader
from kv_transfer.vllm_nixl import VllmNixlPull

HANDOFF = VllmNixlPull(lease_s=30, ucx_tls=None)


def parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


def request(**changes: Any) -> EngineCoreRequest:
    values: dict[str, Any] = {
        "request_id": "client",
        "prompt_token_ids": [1, 2, 3],
        "mm_features": None,
        "sampling_params": SamplingParams(max_tokens=5, temperature=0.7, seed=3, logprobs=4),
        "pooling_params": None,
        "arrival_time": 0.0,
        "lora_request": None,
        "cache_salt": None,
        "data_parallel_rank": None,
    }
    return EngineCoreRequest(**{**values, **changes})


def encoded(message: Any) -> list[bytes]:
    return [bytes(buffer) for buffer in MsgpackEncoder().encode(message)]


def bare_core() -> EngineCore:
    """The encoding half, without a process."""
    engine = EngineCore.__new__(EngineCore)
    engine._encoder = MsgpackEncoder()
    engine._decoder = MsgpackDecoder(EngineCoreRequest)
    return engine


# --- versions, configuration, client --------------------------------------------------------------


def test_the_installed_vllm_is_the_supported_one() -> None:
    assert vllm.__version__.startswith(SUPPORTED_VLLM)


def spec(**settings: Any) -> EngineSpec:
    model = Settings.model_validate(settings)
    transfer = HANDOFF.transfer_config("cpu")
    return EngineSpec(DEMO_MODEL, "demo", "cpu", "float32", model, transfer)


def test_every_engine_argument_is_one_of_vllms() -> None:
    known = {field.name for field in fields(AsyncEngineArgs)}
    assert engine_args(spec()).keys() <= known
    gpu = EngineSpec(DEMO_MODEL, "demo", "cuda", "auto", Settings(), {})
    assert engine_args(gpu).keys() <= known


def test_extra_arguments_win() -> None:
    assert engine_args(spec(engine={"extra_args": {"seed": 5}}))["seed"] == 5


def test_the_client_has_the_calls_that_core_makes() -> None:
    assert parameters(EngineCoreClient.make_async_mp_client)[:3] == [
        "vllm_config",
        "executor_class",
        "log_stats",
    ]
    assert parameters(AsyncMPClient.add_request_async) == ["self", "request"]
    assert parameters(AsyncMPClient.abort_requests_async) == ["self", "request_ids"]
    assert parameters(AsyncMPClient.get_output_async) == ["self"]
    assert parameters(AsyncMPClient.get_supported_tasks_async) == ["self"]
    assert "timeout" in parameters(AsyncMPClient.shutdown)


def test_an_engine_has_answered_before_the_names_of_its_sockets_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Answering:
        asked = 0

        async def get_supported_tasks_async(self) -> tuple[str, ...]:
            self.asked += 1
            await asyncio.sleep(0)
            assert folder().is_dir(), "its output would never find ours"
            return ("generate",)

    def folder() -> Path:
        return Path(os.environ["VLLM_RPC_BASE_PATH"])

    monkeypatch.setenv("VLLM_RPC_BASE_PATH", "before")
    monkeypatch.setattr("engine.core._start_client", lambda config: Answering())
    client: Any = asyncio.run(_started(engine_config(spec())))
    assert client.asked == 1
    assert not folder().exists()


# --- messages -------------------------------------------------------------------------------------


def test_every_finish_reason_is_an_end() -> None:
    assert core._ENDS.keys() == set(FinishReason)
    good = {r for r, end in core._ENDS.items() if end is LegEnd.DONE}
    assert good == {FinishReason.STOP, FinishReason.LENGTH, FinishReason.REPETITION}


def test_requests_have_the_fields_that_are_set() -> None:
    names = set(EngineCoreRequest.__struct_fields__)
    assert names >= {
        "request_id",
        "sampling_params",
        "cache_salt",
        "priority",
        "reasoning_ended",
        "reasoning_parser_kwargs",
    }


def test_outputs_have_the_fields_that_are_read() -> None:
    output = EngineCoreOutput("a", [1])
    assert (output.finish_reason, output.kv_transfer_params, output.prefill_stats) == (None,) * 3
    assert PrefillStats().num_cached_tokens == 0


def test_statistics_have_the_fields_that_are_read() -> None:
    readers = ReportReader(), StepReader()
    stats = core._stats(SchedulerStats(kv_cache_usage=0.5), *readers)
    assert stats is not None
    assert stats.kv_used == 0.5
    assert (stats.prefix_queried_tokens, stats.prefix_hit_tokens, stats.preemptions) == (0, 0, 0)
    assert core._stats(None, *readers) is None


def test_a_steps_report_survives_the_way_out_of_the_engine() -> None:
    report = StepReport(StepWork(0.5, 3, 4.5, 6, 7, 0.25), packed([1, 2**60 - 1]), packed([3]), 4)
    stats = SchedulerStats(kv_connector_stats={"other": 1, STEP_KEY: to_plain(report)})
    sent = encoded(EngineCoreOutputs(scheduler_stats=stats))
    found = MsgpackDecoder(EngineCoreOutputs).decode(sent).scheduler_stats
    assert found is not None
    read = core._stats(found, ReportReader(), StepReader())
    assert read is not None
    assert (read.work, list(read.stored), list(read.removed)) == (report.work, [1, 2**60 - 1], [3])
    assert read.left_out == 4


RICH = SamplingParams(
    n=1,
    max_tokens=9,
    min_tokens=2,
    temperature=0.5,
    top_p=0.9,
    top_k=7,
    seed=11,
    stop=["END"],
    stop_token_ids=[5],
    logprobs=3,
    logit_bias={4: 1.5},
    presence_penalty=0.25,
    structured_outputs=StructuredOutputsParams(json={"type": "object"}),
    output_kind=RequestOutputKind.DELTA,
    extra_args={"mine": [1, {"two": None}]},
)


def test_a_rich_request_survives_the_wire() -> None:
    sent = request(sampling_params=RICH, cache_salt="s", priority=3, trace_headers={"a": "b"})
    found = MsgpackDecoder(EngineCoreRequest).decode(encoded(sent))
    assert msgspec.structs.asdict(found)["priority"] == 3
    assert found.trace_headers == {"a": "b"}
    assert repr(found.sampling_params) == repr(sent.sampling_params)
    assert found.sampling_params.structured_outputs == RICH.structured_outputs
    assert found.sampling_params.extra_args == RICH.extra_args


def test_the_prefill_leg_keeps_what_the_prompts_kv_depends_on_and_drops_the_rest() -> None:
    sent = request(
        sampling_params=RICH, cache_salt="s", priority=3, reasoning_parser_kwargs={"a": 1}
    )
    found = bare_core().prefill_request(encoded(sent), "a.0.p", HANDOFF.prefill_params(TICKET))
    assert (found.request_id, found.cache_salt, found.priority) == ("a.0.p", "s", 3)
    assert found.prompt_token_ids == sent.prompt_token_ids
    params = found.sampling_params
    assert (params.n, params.max_tokens, params.min_tokens) == (1, 1, 0)
    assert params.temperature == 0.0
    assert params.structured_outputs is params.logprobs is params.seed is params.logit_bias is None
    assert not params.stop
    assert found.reasoning_parser_kwargs is None


TICKET = Ticket("t", 1, 30.0, b'{"remote_block_ids": [[1]], "remote_port": 1}')


def test_the_decode_leg_keeps_everything_and_says_where_its_kv_is() -> None:
    params = HANDOFF.decode_params(TICKET)
    found = bare_core().decode_request(encoded(request(sampling_params=RICH)), "a.0.d", params)
    assert found.request_id == "a.0.d"
    assert found.sampling_params.seed == RICH.seed
    assert found.sampling_params.extra_args == {**RICH.extra_args, "kv_transfer_params": params}
    assert Request.from_engine_core_request(found, None).kv_transfer_params == params


def test_a_solo_leg_has_no_kv_elsewhere() -> None:
    found = bare_core().decode_request(encoded(request()), "a.0.s", None)
    assert Request.from_engine_core_request(found, None).kv_transfer_params is None


def test_pooling_is_not_served() -> None:
    with pytest.raises(BatonError) as caught:
        bare_core().decode_request(encoded(request(sampling_params=None)), "a.0.s", None)
    assert caught.value.reason is Reason.UNSUPPORTED


GARBAGE = st.lists(st.binary(max_size=60), max_size=3)


@given(GARBAGE | st.binary(max_size=80).map(lambda tail: [encoded(request())[0][:40] + tail]))
def test_garbage_is_refused_and_nothing_else(payload: list[bytes]) -> None:
    with suppress(BatonError):
        bare_core().decode_request(payload, "a.0.s", None)


def test_outputs_survive_the_wire() -> None:
    sent = [EngineCoreOutput("a", [1]), EngineCoreOutput("b", [2], finish_reason=FinishReason.STOP)]
    found = MsgpackDecoder(EngineCoreOutputs).decode(bare_core().encode(sent)).outputs
    assert [(o.request_id, o.new_token_ids, o.finish_reason) for o in found] == [
        ("a", [1], None),
        ("b", [2], FinishReason.STOP),
    ]


# --- inside the engine process --------------------------------------------------------------------


@pytest.mark.parametrize("executor", [UniProcExecutor, MultiprocExecutor])
def test_executors_have_the_hooks(executor: type) -> None:
    assert parameters(executor._init_executor) == ["self"]
    assert parameters(executor.initialize_from_config) == ["self", "kv_cache_configs"]
    # The mixin has to come first, or its hooks are not called.
    assert inside.BatonUniProcExecutor.__mro__[1] is inside.ReportingExecutor
    assert inside.BatonMultiprocExecutor.__mro__[1] is inside.ReportingExecutor


def test_schedulers_have_the_hook() -> None:
    assert parameters(Scheduler.add_request) == ["self", "request"]
    assert issubclass(inside.BatonAsyncScheduler, AsyncScheduler)
    assert inside.BatonScheduler.__mro__[1] is inside.BatonSchedulerMixin
    assert inside.BatonAsyncScheduler.__mro__[1] is inside.BatonSchedulerMixin


class RecordingScheduler:
    """Takes the place of vLLM's scheduler below the mixin."""

    def __init__(self) -> None:
        self.requests: dict[str, Request] = {}

    def add_request(self, added: Request) -> None:
        assert added.request_id not in self.requests, "duplicate request id"
        self.requests[added.request_id] = added


class Mixed(inside.BatonSchedulerMixin, RecordingScheduler):
    """The mixin on top of it, without a cache to name."""

    def __init__(self) -> None:
        RecordingScheduler.__init__(self)


def test_a_repeated_leg_is_dropped_where_vllm_would_end_the_process() -> None:
    scheduler = Mixed()
    first, again = (Request.from_engine_core_request(request(), None) for _ in range(2))
    scheduler.add_request(first)
    scheduler.add_request(again)
    assert scheduler.requests["client"] is first
    assert scheduler.repeated_legs == 1
    assert "duplicate request id" in inspect.getsource(Scheduler.add_request)


ENGINE_CORE_SOURCE = "vllm.v1.engine.core"


def test_the_engine_process_logs_its_failure_where_it_is_heard() -> None:
    source = inspect.getsource(sys.modules.get(ENGINE_CORE_SOURCE) or _import_core())
    assert 'logger.exception("EngineCore failed to start' in source


def _import_core() -> Any:
    import importlib

    return importlib.import_module(ENGINE_CORE_SOURCE)


def test_nothing_of_vllm_is_imported_by_the_light_modules() -> None:
    code = """
        import sys
        import engine.worker, engine.service, engine.preflight, kv_transfer.handoff
        import prefill_worker, decode_worker
        heavy = {"vllm", "torch", "nixl", "ray"} & set(sys.modules)
        sys.exit(str(heavy) if heavy else 0)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
