"""What the front relies on inside vLLM. After an upgrade, this fails first and says where."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

import pytest
import vllm
from vllm.engine.protocol import EngineClient
from vllm.entrypoints.generate.base.serving import GenerateBaseServing
from vllm.exceptions import GracefulHTTPError
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, EngineCoreRequest, FinishReason
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.core_client import AsyncMPClient
from vllm.v1.engine.output_processor import (
    OutputProcessor,
    OutputProcessorOutput,
    RequestOutputCollector,
    RequestState,
)
from vllm.v1.engine.parallel_sampling import ParentRequest
from vllm.v1.serial_utils import MsgpackDecoder, MsgpackEncoder

from router.front import BatonFront, HeartCore
from tests.wire.fakes import encode

pytestmark = pytest.mark.wire


def _parameters(function: Any) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]


def test_version():
    assert vllm.__version__.startswith("0.32.")


@pytest.mark.parametrize(
    ("function", "leading"),
    [
        (AsyncLLM.check_admission, ["n", "request_id"]),
        (AsyncLLM.generate, ["prompt", "sampling_params", "request_id"]),
        (AsyncLLM.add_request, ["request_id", "prompt", "params"]),
        (AsyncLLM._add_request, ["request", "prompt", "parent_req", "index", "queue"]),
        (AsyncLLM._run_output_handler, []),
        (AsyncLLM.shutdown, ["timeout"]),
        (AsyncMPClient.add_request_async, ["request"]),
        (AsyncMPClient.abort_requests_async, ["request_ids"]),
        (AsyncMPClient.get_supported_tasks_async, []),
        (
            OutputProcessor.__init__,
            ["tokenizer", "log_stats", "stream_interval", "tracing_enabled"],
        ),
        (OutputProcessor.abort_requests, ["request_ids", "internal"]),
        (
            OutputProcessor.process_outputs,
            ["engine_core_outputs", "engine_core_timestamp", "iteration_stats", "weight_version"],
        ),
        (RequestOutputCollector.put, ["output"]),
        (RequestOutputCollector.get, []),
        (RequestOutputCollector.get_nowait, []),
        (GracefulHTTPError.__init__, ["message", "http_status"]),
        (GenerateBaseServing._preflight, ["n"]),
        (GenerateBaseServing.create_streaming_error_response, ["message"]),
        (MsgpackEncoder.encode, ["obj"]),
        (MsgpackDecoder.__init__, ["t"]),
        (MsgpackDecoder.decode, ["bufs"]),
    ],
    ids=lambda value: getattr(value, "__qualname__", ""),
)
def test_signature(function: Any, leading: list[str]):
    assert _parameters(function)[: len(leading)] == leading


def test_generate_passes_its_options_to_add_request():
    options = set(_parameters(AsyncLLM.generate)) - {"prompt", "sampling_params", "request_id"}
    assert options <= set(_parameters(AsyncLLM.add_request))


def test_every_attribute_that_the_engine_client_sets_is_set_here():
    """`BatonFront` skips `AsyncLLM.__init__`; what that sets and this leaves out is listed."""
    left_out = {
        "_client_count",
        "_elastic_ep_lock",
        "_frontend_profiler_injected",
        "_frontend_profiler_worker_name",
        "_profile_lock",
        "_profile_session_active",
        "_profile_session_guard_enabled",
    }
    theirs = _set_in(AsyncLLM.__init__)
    assert theirs - _set_in(BatonFront.__init__) == left_out


def _set_in(function: Any) -> set[str]:
    """Names that a function's own code stores as attributes."""
    code = function.__code__
    import dis

    return {i.argval for i in dis.get_instructions(code) if i.opname == "STORE_ATTR"}


def test_engine_client_has_no_further_abstract_methods():
    assert not getattr(BatonFront, "__abstractmethods__", None)
    assert issubclass(BatonFront, EngineClient)


def test_heart_core_offers_what_serving_uses():
    for name in ("add_request_async", "abort_requests_async", "get_supported_tasks_async"):
        assert inspect.iscoroutinefunction(getattr(HeartCore, name))
        assert inspect.iscoroutinefunction(getattr(AsyncMPClient, name))


@pytest.mark.parametrize(
    ("struct", "fields"),
    [
        (
            EngineCoreRequest,
            {"request_id", "prompt_token_ids", "sampling_params", "external_req_id"},
        ),
        (EngineCoreOutput, {"request_id", "new_token_ids", "finish_reason"}),
        (EngineCoreOutputs, {"outputs", "timestamp", "weight_version"}),
    ],
)
def test_fields(struct: Any, fields: set[str]):
    assert fields <= set(struct.__struct_fields__)


def test_states_and_parents():
    assert {"queue", "parent_req"} <= _set_in(RequestState.__init__)
    assert {"request_id", "child_requests"} <= _set_in(ParentRequest.__init__)
    assert {"request_states", "parent_requests"} <= _set_in(OutputProcessor.__init__)
    assert "reqs_to_abort" in OutputProcessorOutput.__dataclass_fields__
    assert {FinishReason.ABORT, FinishReason.ERROR} < set(FinishReason)


def test_vllms_span_is_told_by_the_clock_of_the_steps():
    """Its parts are differences between a step's time and those of the engine's events."""
    told: list[float] = []

    def take(_outputs: Any, timestamp: float, *_: Any) -> OutputProcessorOutput:
        told.append(timestamp)
        return OutputProcessorOutput([], [])

    front: Any = BatonFront.__new__(BatonFront)
    front._decoder, front._traced = MsgpackDecoder(EngineCoreOutputs), True
    front.output_processor = SimpleNamespace(process_outputs=take)
    step = EngineCoreOutputs(outputs=[EngineCoreOutput("leg", [1])], timestamp=123.5)
    front.deliver(encode(step), {"leg": "r"})
    assert told == [123.5]


async def test_what_nobody_takes_from_a_collector_becomes_one_output():
    collector = RequestOutputCollector(RequestOutputKind.DELTA, "a")
    assert not collector.ready.is_set()
    for token in (7, 8):
        collector.put(_delta(token))
    assert collector.ready.is_set()
    output = collector.get_nowait()
    assert [(one.text, list(one.token_ids)) for one in output.outputs] == [("78", [7, 8])]
    assert not collector.ready.is_set()


def _delta(token: int) -> RequestOutput:
    one = CompletionOutput(0, str(token), [token], None, None)
    return RequestOutput("a", None, None, None, [one], finished=False)


def test_an_exception_replaces_what_waits_in_a_collector():
    async def run() -> None:
        collector = RequestOutputCollector(RequestOutputKind.DELTA, "a")
        collector.output = object()
        collector.put(GracefulHTTPError("gone", 502))
        with pytest.raises(GracefulHTTPError):
            collector.get_nowait()

    import asyncio

    asyncio.run(run())
