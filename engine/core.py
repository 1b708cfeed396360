"""vLLM's engine core as an `Engine`: configuration, process, requests in, steps out.

One of the few files that touch vLLM's internals (covered by the engine contract tests). The
process that imports this must have set `engine_environment` before.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import vllm
from vllm.config import KVEventsConfig, VllmConfig
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.sampling_params import SamplingParams
from vllm.usage.usage_lib import UsageContext
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, EngineCoreRequest, FinishReason
from vllm.v1.engine.core_client import AsyncMPClient, EngineCoreClient
from vllm.v1.engine.exceptions import EngineDeadError
from vllm.v1.executor import Executor
from vllm.v1.metrics.stats import SchedulerStats
from vllm.v1.serial_utils import MsgpackDecoder, MsgpackEncoder

from baton.errors import BatonError, Reason, StartupError, StartupFault
from baton.scratch import scratch_path
from baton.settings import extend_process_environ
from engine.inside import (
    BatonAsyncScheduler,
    BatonScheduler,
)
from engine.leg_spans import LegSpans
from engine.leg_times import moments
from engine.ports import EngineFacts, LegEnd, Moments, Step, StepStats
from engine.resuming import RESUMED_KEY, check_resumed
from engine.spec import EngineSpec, engine_args
from engine.step_work import StepReader, unpacked
from engine.transfers import ReportReader
from engine.vllm_metrics import EngineMetrics
from kv_transfer.report import TransferReport
from kv_transfer.start_report import open_report, read_report, report_path, startup_error

FIRST_ANSWER_S = 60.0
"""An engine that is ready and does not answer within is given up."""

_ENDS = {
    FinishReason.STOP: LegEnd.DONE,
    FinishReason.LENGTH: LegEnd.DONE,
    FinishReason.REPETITION: LegEnd.DONE,
    FinishReason.ABORT: LegEnd.ABORTED,
    FinishReason.ERROR: LegEnd.FAILED,
}


def engine_config(spec: EngineSpec) -> VllmConfig:
    """vLLM's configuration. Raises StartupError for what vLLM refuses."""
    try:
        args = AsyncEngineArgs(**engine_args(spec))
        config = args.create_engine_config(UsageContext.OPENAI_API_SERVER)
    except (ValueError, TypeError, OSError, RuntimeError) as error:
        raise _refused(error) from error
    scheduler = config.scheduler_config
    # Chosen after the fact: naming a class beforehand would switch async scheduling off.
    scheduler.scheduler_cls = BatonAsyncScheduler if scheduler.async_scheduling else BatonScheduler
    if config.cache_config.enable_prefix_caching and not _has_events(config):
        # The scheduler hears of its cache in its own process: nothing listens on a port.
        config.kv_events_config = KVEventsConfig(enable_kv_cache_events=True, publisher="null")
    return config


def _has_events(config: VllmConfig) -> bool:
    return config.kv_events_config is not None and config.kv_events_config.enable_kv_cache_events


def _refused(error: Exception) -> StartupError:
    return StartupError(StartupFault.SETTINGS_INVALID, f"vLLM refuses these settings: {error}")


class EngineCore:
    """One engine process, owned by the process that started it."""

    def __init__(
        self,
        client: AsyncMPClient,
        facts: EngineFacts,
        spans: LegSpans,
        metrics: EngineMetrics | None = None,
    ) -> None:
        self._client = client
        self._spans = spans
        self._metrics = metrics
        self._encoder = MsgpackEncoder()
        self._decoder = MsgpackDecoder(EngineCoreRequest)
        self._facts = facts
        self._reports = ReportReader()
        self._steps = StepReader()

    @classmethod
    async def start(cls, spec: EngineSpec, owner_pid: int) -> EngineCore:
        """Start the process and wait until it is ready. Raises StartupError."""
        report = report_path(owner_pid)
        open_report(report)
        config = await asyncio.to_thread(engine_config, spec)
        try:
            client = await _started(config)
            endpoint = read_report(report).endpoint
        except (RuntimeError, TimeoutError, EngineDeadError) as error:
            raise startup_error(read_report(report)) from error
        finally:
            report.unlink(missing_ok=True)
        spans = LegSpans(spec.spans, spec.worker_id)
        metrics = EngineMetrics(config) if spec.settings.engine.metrics else None
        return cls(client, _facts(client, config, spec.device, endpoint), spans, metrics)

    @property
    def config(self) -> VllmConfig:
        """What it was started with."""
        return self._client.vllm_config

    @property
    def facts(self) -> EngineFacts:
        return self._facts

    def prefill_request(
        self,
        payload: Sequence[bytes],
        leg_id: str,
        kv_params: Mapping[str, Any],
        resumed: Sequence[int] = (),
    ) -> EngineCoreRequest:
        request = self._decode(payload, leg_id, resumed)
        if resumed:
            request.prompt_token_ids = [*(request.prompt_token_ids or ()), *resumed]
        request.sampling_params = SamplingParams(
            n=1, max_tokens=1, temperature=0.0, extra_args={"kv_transfer_params": dict(kv_params)}
        )
        # A grammar would be compiled here for a token that nobody reads.
        request.reasoning_ended = request.reasoning_parser_kwargs = None
        return request

    def decode_request(
        self,
        payload: Sequence[bytes],
        leg_id: str,
        kv_params: Mapping[str, Any] | None,
        resumed: Sequence[int] = (),
    ) -> EngineCoreRequest:
        request = self._decode(payload, leg_id, resumed)
        params = request.sampling_params
        assert params is not None
        extra = {k: v for k, v in (params.extra_args or {}).items() if k != RESUMED_KEY}
        if kv_params is not None:
            extra["kv_transfer_params"] = dict(kv_params)
        if resumed:
            extra[RESUMED_KEY] = list(resumed)
            # The client has them: they came with the first token.
            params.prompt_logprobs = None
        params.extra_args = extra or None
        return request

    def _decode(
        self, payload: Sequence[bytes], leg_id: str, resumed: Sequence[int]
    ) -> EngineCoreRequest:
        try:
            request: EngineCoreRequest = self._decoder.decode(payload)
        except (msgspec.MsgspecError, ValueError, IndexError) as error:
            raise BatonError(Reason.INVALID_REQUEST, f"unreadable request: {error}") from error
        if request.sampling_params is None:
            raise BatonError(Reason.UNSUPPORTED, "only generation is served")
        request.request_id = leg_id
        if resumed:
            check_resumed(request, resumed, self._facts)
        return request

    async def add(self, request: EngineCoreRequest) -> None:
        self._spans.began(request.request_id, request.trace_headers)
        if self._metrics is not None:
            self._metrics.took(request)
        try:
            with _dead_is_failed():
                await self._client.add_request_async(request)
        except BatonError:
            self._spans.ended(request.request_id, LegEnd.FAILED.value)
            raise

    async def abort(self, leg_ids: Sequence[str]) -> None:
        for leg_id in leg_ids:
            self._spans.ended(leg_id, LegEnd.ABORTED.value)
        if self._metrics is not None:
            self._metrics.dropped(leg_ids)
        with _dead_is_failed():
            await self._client.abort_requests_async(list(leg_ids))

    async def step(self) -> Step:
        try:
            with _dead_is_failed():
                outputs: EngineCoreOutputs = await self._client.get_output_async()
        except BatonError:
            self._spans.all_ended(LegEnd.FAILED.value)
            raise
        if self._metrics is not None:
            self._metrics.stepped(outputs)
        return Step(outputs.outputs, _stats(outputs.scheduler_stats, self._reports, self._steps))

    def ended(self, output: EngineCoreOutput) -> LegEnd | None:
        if (reason := output.finish_reason) is None:
            return None
        end = _ENDS[reason]
        self._spans.ended(output.request_id, "" if end is LegEnd.DONE else end.value)
        return end

    def kv_params(self, output: EngineCoreOutput) -> Mapping[str, Any] | None:
        params: Mapping[str, Any] | None = output.kv_transfer_params
        return params

    def cached_tokens(self, output: EngineCoreOutput) -> int:
        stats = output.prefill_stats
        return stats.num_cached_tokens if stats is not None else 0

    def moments(self, output: EngineCoreOutput) -> Moments:
        return moments((event.type.name, event.timestamp) for event in output.events or ())

    def encode(self, outputs: Sequence[EngineCoreOutput]) -> list[bytes]:
        buffers = self._encoder.encode(EngineCoreOutputs(outputs=list(outputs)))
        return [bytes(buffer) for buffer in buffers]

    async def transfer_report(self) -> TransferReport | None:
        with _dead_is_failed():
            ranks = await self._client.collective_rpc_async("connector_stats")
        return self._reports.read(
            {key: said for stats in ranks for key, said in (stats or {}).items()}
        )

    async def peers_dead(self, agents: Sequence[str]) -> None:
        with _dead_is_failed():
            await self._client.collective_rpc_async("hear_peers_dead", args=(list(agents),))

    def shutdown(self, timeout_s: float) -> None:
        self._client.shutdown(timeout=timeout_s)


async def _started(config: VllmConfig) -> AsyncMPClient:
    """The engine process, its sockets' names in a folder that is gone once both ends have met.

    vLLM leaves them, and the name of a store, in the temporary folder; killed processes would too.
    Ready means only that the engine's input has met ours: an answer proves it of its output.
    """
    name = f"{scratch_path('engine', os.getpid()).name}-"
    with tempfile.TemporaryDirectory(prefix=name) as folder:
        extend_process_environ({"VLLM_RPC_BASE_PATH": folder})
        client = await asyncio.to_thread(_start_client, config)
        try:
            await asyncio.wait_for(client.get_supported_tasks_async(), FIRST_ANSWER_S)
        except BaseException:
            client.shutdown(timeout=0)
            raise
        return client


def _start_client(config: VllmConfig) -> AsyncMPClient:
    client = EngineCoreClient.make_async_mp_client(
        vllm_config=config, executor_class=Executor.get_class(config), log_stats=True
    )
    assert isinstance(client, AsyncMPClient)
    return client


def _facts(client: AsyncMPClient, config: VllmConfig, device: str, endpoint: bytes) -> EngineFacts:
    manager = client.resources.engine_manager
    return EngineFacts(
        max_model_len_tokens=config.model_config.max_model_len,
        block_size_tokens=config.cache_config.block_size,
        kv_blocks=config.cache_config.num_gpu_blocks or 0,
        dtype=str(config.model_config.dtype).removeprefix("torch."),
        device=device,
        vllm_version=vllm.__version__,
        pid=manager.processes[0].pid if manager is not None else 0,
        transfer_endpoint=endpoint,
        vocabulary=config.model_config.get_vocab_size(),
        max_running=config.scheduler_config.max_num_seqs,
        max_batched_tokens=config.scheduler_config.max_num_batched_tokens,
    )


def _stats(
    stats: SchedulerStats | None, reports: ReportReader, steps: StepReader
) -> StepStats | None:
    if stats is None:
        return None
    prefix, step = stats.prefix_cache_stats, steps.read(stats.kv_connector_stats)
    return StepStats(
        kv_used=stats.kv_cache_usage,
        prefix_queried_tokens=prefix.queries,
        prefix_hit_tokens=prefix.hits,
        preemptions=prefix.preempted_requests,
        transfer=reports.read(stats.kv_connector_stats),
        work=step.work,
        stored=unpacked(step.stored),
        removed=unpacked(step.removed),
        left_out=step.left_out,
        block_bytes=step.block_bytes,
    )


@contextmanager
def _dead_is_failed() -> Iterator[None]:
    """Translates vLLM's word for a dead engine."""
    try:
        yield
    except EngineDeadError as error:
        raise BatonError(Reason.ENGINE_FAILED, "the engine process is dead") from error
