"""The classes that vLLM loads inside the engine process: executors, schedulers, workers' additions.

One of the few files that touch vLLM's internals (covered by the engine contract tests). The
executors tie the process to its owner before the model is loaded, and report the start-up's
phases and its failure into a file, since the owner sees only that the process is gone.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vllm.distributed.kv_transfer import get_kv_transfer_group, has_kv_transfer_group
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.executor.multiproc_executor import MultiprocExecutor
from vllm.v1.executor.uniproc_executor import UniProcExecutor
from vllm.v1.request import Request

from engine.tether import tether_to_parent
from kv_transfer.start_report import StartReport, report_path

_log = logging.getLogger("baton.engine")


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


class BatonMultiprocExecutor(ReportingExecutor, MultiprocExecutor):
    """One process per device of a tensor-parallel group."""


class DeviceWorkerExtension:
    """What Baton adds to vLLM's worker of each device."""

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


class BatonSchedulerMixin:
    """What Baton adds to vLLM's scheduler.

    A leg id that is in use again would end the engine process by an assertion
    (`Scheduler.add_request`). Leg ids are never reused, so a repeated one is a repeated message:
    it is dropped and the first leg goes on.
    """

    requests: dict[str, Request]
    repeated_legs = 0

    def add_request(self, request: Request) -> None:
        if request.request_id in self.requests and not request.resumable:
            self.repeated_legs += 1
            _log.error("leg %s is already here; the repeat is dropped", request.request_id)
            return
        super().add_request(request)  # type: ignore[misc]


class BatonScheduler(BatonSchedulerMixin, Scheduler):
    """For engines with one step in flight."""


class BatonAsyncScheduler(BatonSchedulerMixin, AsyncScheduler):
    """For engines that schedule a step ahead."""
