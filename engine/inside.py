"""The classes that vLLM loads inside the engine process: executors, schedulers, workers' additions.

One of the few files that touch vLLM's internals (covered by the engine contract tests). The
executors tie the process to its owner before the model is loaded, and report the start-up's
phases and its failure into a file, since the owner sees only that the process is gone.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vllm import envs
from vllm.config.kv_events import KVEventsConfig
from vllm.distributed.kv_events import (
    MEDIUM_GPU,
    AllBlocksCleared,
    BlockRemoved,
    BlockStored,
    EventBatch,
    EventPublisher,
    KVCacheEvent,
)
from vllm.distributed.kv_transfer import get_kv_transfer_group, has_kv_transfer_group
from vllm.platforms import current_platform
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.engine import EngineCoreEventType, EngineCoreOutputs
from vllm.v1.executor.multiproc_executor import MultiprocExecutor
from vllm.v1.executor.uniproc_executor import UniProcExecutor
from vllm.v1.kv_cache_interface import FullAttentionSpec
from vllm.v1.metrics.stats import (
    KV_FETCH_COMPLETED_WAITING,
    KV_FETCH_IN_PROGRESS,
    SchedulerStats,
)
from vllm.v1.request import Request
from vllm.v1.worker.gpu_input_batch import CachedRequestState

from engine.block_names import BlockNames
from engine.resuming import resumed_in
from engine.step_work import (
    STEP_KEY,
    StepMeter,
    StepReport,
    StepWork,
    packed,
    to_plain,
    work_of,
)
from engine.tether import tether_to_parent
from kv_transfer.start_report import StartReport, report_path

_log = logging.getLogger("baton.engine")
_FETCHING = frozenset({KV_FETCH_IN_PROGRESS, KV_FETCH_COMPLETED_WAITING})


class _FailureHandler(logging.Handler):
    """Hears vLLM say why the engine failed: the exception itself ends with the process."""

    def __init__(self, report: StartReport) -> None:
        super().__init__(logging.ERROR)
        self._report = report

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] is not None:
            self._report.failed(record.exc_info[1])


class ReportingExecutor:
    """Mixin for executors: tether, phases, failure."""

    def _init_executor(self) -> None:
        tether_to_parent()
        self._report = StartReport(report_path(os.getppid()))
        logging.getLogger("vllm.v1.engine.core").addHandler(_FailureHandler(self._report))
        self._report.phase("loading weights")
        with _nameless_locks():
            super()._init_executor()  # type: ignore[misc]

    def initialize_from_config(self, kv_cache_configs: Any) -> Any:
        self._report.phase("allocating KV cache and warming up")
        self.collective_rpc("begin_with_resumed")  # type: ignore[attr-defined]
        return super().initialize_from_config(kv_cache_configs)  # type: ignore[misc]


@contextmanager
def _nameless_locks() -> Iterator[None]:
    """Locks made in here have no name in shared memory.

    vLLM and tqdm make some that no other process uses. Made for spawned children they keep a name
    that stays behind when the engine is killed; made for forked ones they lose it at once. vLLM's
    own children are started by a context of their own.
    """
    method = multiprocessing.get_start_method()
    multiprocessing.set_start_method("fork", force=True)
    try:
        yield
    finally:
        multiprocessing.set_start_method(method, force=True)


class BatonUniProcExecutor(ReportingExecutor, UniProcExecutor):
    """The model in the engine process itself: one device."""

    def _distributed_args(self) -> tuple[str, int, int]:
        method, rank, local_rank = super()._distributed_args()
        if method.startswith("file:"):
            # Beside the engine's sockets, which go once it is ready: vLLM's own stays for ever.
            method = f"file://{envs.VLLM_RPC_BASE_PATH}/store-{os.getpid()}"
        return method, rank, local_rank


class BatonMultiprocExecutor(ReportingExecutor, MultiprocExecutor):
    """One process per device of a tensor-parallel group."""


class ResumedState(CachedRequestState):
    """A request as vLLM's first model runner knows it, with the outputs it is resumed with."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.output_token_ids:
            self.output_token_ids.extend(resumed_in(self.sampling_params))


class DeviceWorkerExtension:
    """What Baton adds to vLLM's worker of each device."""

    vllm_config: Any

    def begin_with_resumed(self) -> None:
        """Let requests have outputs when they come."""
        # The second runner is told all tokens of a new request; the first one only the prompt's.
        if not self.vllm_config.use_v2_model_runner:
            from vllm.v1.worker import gpu_model_runner

            gpu_model_runner.CachedRequestState = ResumedState

    def hear_peers_dead(self, agents: list[str]) -> None:
        """Pass on to the KV connector that the engines with these agents have ended."""
        # Connectors of vLLM have no use for it.
        hear = getattr(_connector(), "peers_dead", None)
        if hear is not None:
            hear(tuple(agents))

    def connector_stats(self) -> dict[str, Any] | None:
        """What would go out with the next step, for an engine that has none to make."""
        connector = _connector()
        stats = None if connector is None else connector.get_kv_connector_stats()
        return None if stats is None else stats.to_dict()


def _connector() -> Any:
    return get_kv_transfer_group() if has_kv_transfer_group() else None


class CacheTap(EventPublisher):
    """Names the blocks that the prefix cache stores and removes, and passes the events on.

    Events of other media, which offloading connectors add, are not of this cache.
    """

    def __init__(self, behind: EventPublisher, names: BlockNames) -> None:
        super().__init__()
        self._behind = behind
        self._names = names

    def publish(self, events: EventBatch) -> None:
        for event in events.events:
            self._name(event)
        self._behind.publish(events)

    def _name(self, event: KVCacheEvent) -> None:
        if isinstance(event, AllBlocksCleared):
            self._names.cleared()
        elif isinstance(event, BlockRemoved) and event.medium == MEDIUM_GPU:
            for block in event.block_hashes:
                self._names.removed(block)
        elif isinstance(event, BlockStored) and event.medium == MEDIUM_GPU:
            self._names.stored(
                event.block_hashes,
                event.parent_block_hash,
                event.token_ids,
                event.lora_name,
                event.extra_keys,
            )

    def shutdown(self) -> None:
        self._behind.shutdown()

    def get_publisher_config(self) -> KVEventsConfig | None:
        return self._behind.get_publisher_config()


class BatonSchedulerMixin:
    """What Baton adds to vLLM's scheduler.

    A leg id that is in use again would end the engine process by an assertion
    (`Scheduler.add_request`). Leg ids are never reused, so a repeated one is a repeated message:
    it is dropped and the first leg goes on.

    Each step's statistics carry what it computed, how long it took, and what has changed in the
    prefix cache since the step before.
    """

    requests: dict[str, Request]
    kv_event_publisher: EventPublisher
    repeated_legs = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._meter = StepMeter(_computes_inline(self))
        self._block_bytes = _block_bytes(self)
        self._names = _names(self)
        self.kv_event_publisher = CacheTap(self.kv_event_publisher, self._names)

    def add_request(self, request: Request) -> None:
        if request.request_id in self.requests and not request.resumable:
            self.repeated_legs += 1
            _log.error("leg %s is already here; the repeat is dropped", request.request_id)
            return
        # A client may ask for events of blocks that it merely reuses. They look like new ones.
        request.kv_cache_report_mode = "incremental"
        _resume(request)
        super().add_request(request)  # type: ignore[misc]

    def _set_kv_fetch_stage(self, request: Request, stage: str | None) -> None:
        if stage in _FETCHING:
            # Queued once more, for the KV or for a step: `engine.leg_times` reads them in order.
            request.record_event(EngineCoreEventType.QUEUED)
        super()._set_kv_fetch_stage(request, stage)  # type: ignore[misc]

    def schedule(self, *args: Any, **kwargs: Any) -> SchedulerOutput:
        began = time.monotonic()
        self._meter.passed(began)
        step: SchedulerOutput = super().schedule(*args, **kwargs)  # type: ignore[misc]
        self._meter.scheduled(step, work_of(step, self.requests), began)
        return step

    def update_from_output(
        self, scheduler_output: SchedulerOutput, model_runner_output: Any
    ) -> dict[int, EngineCoreOutputs]:
        work = self._meter.ended(scheduler_output, time.monotonic())
        outputs: dict[int, EngineCoreOutputs] = super().update_from_output(  # type: ignore[misc]
            scheduler_output, model_runner_output
        )
        for output in outputs.values():
            if output.scheduler_stats is not None:
                self._report(output.scheduler_stats, work)
        self._meter.settled(self.has_unfinished_requests())  # type: ignore[attr-defined]
        return outputs

    def _report(self, stats: SchedulerStats, work: StepWork | None) -> None:
        stored, removed = self._names.take()
        if work is None and not stored and not removed:
            return
        report = StepReport(
            work, packed(stored), packed(removed), self._names.left_out, self._block_bytes
        )
        stats.kv_connector_stats = {
            **(stats.kv_connector_stats or {}),
            STEP_KEY: to_plain(report),
        }


def _resume(request: Request) -> None:
    resumed = resumed_in(request.sampling_params)
    if resumed:
        request.append_output_token_ids(resumed)
        # Its first computation is held against the prompt's length by an assertion, and what is
        # cached of it may reach into the outputs.
        request.prefill_stats = None


def _names(scheduler: Any) -> BlockNames:
    groups, cache = scheduler.kv_cache_config.kv_cache_groups, scheduler.cache_config
    # Caches of several groups share hashes among blocks of which one may be gone.
    blocks_max = scheduler.kv_cache_config.num_blocks if len(groups) == 1 else 0
    model = scheduler.vllm_config.model_config.served_model_name
    return BlockNames(model, cache.block_size, blocks_max)


def _computes_inline(scheduler: Any) -> bool:
    executor = scheduler.vllm_config.parallel_config.distributed_executor_backend
    return executor is BatonUniProcExecutor and current_platform.is_cpu()


def _block_bytes(scheduler: Any) -> int:
    groups = scheduler.kv_cache_config.kv_cache_groups
    if len(groups) != 1 or not isinstance(groups[0].kv_cache_spec, FullAttentionSpec):
        return 0
    return int(groups[0].kv_cache_spec.page_size_bytes) * len(groups[0].layer_names)


class BatonScheduler(BatonSchedulerMixin, Scheduler):
    """For engines with one step in flight."""


class BatonAsyncScheduler(BatonSchedulerMixin, AsyncScheduler):
    """For engines that schedule a step ahead."""
