"""One worker's process: an engine, its two roles, and the gRPC service before them.

A plain class that `cluster` turns into an actor. Everything runs on an event loop in a thread of
its own, so that the actor's methods answer at once. vLLM is imported only there, after the
environment it reads has been set.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from baton.clock import MonotonicClock
from baton.errors import BatonError, Reason
from baton.ids import WorkerId
from baton.log import configure_logging
from baton.messages import Role, WorkerInfo
from baton.settings import KvTransferSettings, Settings
from baton.settings.tls import TlsSettings
from baton.wire import worker_pb2 as wire
from baton.wire.credentials import dialer, server_credentials, worker_credentials
from cluster.addresses import listen_at, reached_at, with_port
from cluster.ports import StartProgress
from cluster.ray_nodes import own_address
from decode_worker import DecodeRole, SoloRole
from deploy.delivered import Delivered
from deploy.engine_processes import ranks, started, transfer_agent
from deploy.engine_start import set_environment
from deploy.engine_start import start_engine as _start_engine
from deploy.loop_thread import LoopThread, until
from deploy.model import model_path, resolved, served_name
from deploy.spans import close_spans, span_sink
from engine import preflight
from engine.limits import Limits
from engine.metrics_server import MetricsServer
from engine.ports import Engine, EngineFacts
from engine.service import WorkerServer
from engine.transfers import worn_out
from engine.warming import Warming
from engine.worker import Worker
from kv_transfer.handoff import Handoff, handoff_for
from kv_transfer.report import TransferReport
from kv_transfer.start_report import read_report, report_path
from prefill_worker import PrefillRole

if TYPE_CHECKING:
    from deploy.direct import DirectServer
    from deploy.otlp import OtlpSink

_log = logging.getLogger("baton.worker")
_ENGINE_STOP_S = 1.0
_NOTICE_S = 5.0
"""A worker that is to leave waits so long for its supervisor, who tells the routers first."""
_STOPPED_WITHIN_S = 10.0
"""Without anybody to stop it, a worker that has left ends by itself after this."""
_ACCUSED_MAX = 64
"""Peers accused at one time; more than that is not a matter of peers."""


class WorkerProcess:
    """Implements `cluster.ports.WorkerProcess`."""

    def __init__(
        self,
        settings_dump: Mapping[str, Any],
        worker_id: str,
        incarnation: int,
        role: str,
        core_index: int,
        digest: str,
    ) -> None:
        self.choose_handoff: Callable[[KvTransferSettings], Handoff] = handoff_for
        self._settings = resolved(Settings.model_validate(settings_dump))
        self._worker_id = WorkerId(worker_id)
        self._incarnation = incarnation
        self._role = Role(role)
        self._core_index = core_index
        self._digest = digest
        self._loop = LoopThread("worker")
        self._ready: WorkerInfo | None = None
        self._error: Mapping[str, str] | None = None
        self._engine: Engine | None = None
        self._worker: Worker | None = None
        self._server: WorkerServer | None = None
        self._direct: DirectServer | None = None
        self._spans: OtlpSink | None = None
        self._metrics: MetricsServer | None = None
        self._draining: Future[int] | None = None
        self._delivered = Delivered(MonotonicClock())
        self._leaving = False
        self._warming: Future[str] | None = None

    # -- called by the controller

    def start(self) -> None:
        log = self._settings.log
        configure_logging(log.level, log.format, per_second=log.per_second)
        self._loop.start(self._start, self._set_error)

    def progress(self) -> StartProgress:
        phase = "ready" if self._ready else read_report(report_path(os.getpid())).phase
        report = None if self._worker is None else self._worker.tally.transfer
        return StartProgress(
            phase=phase,
            ready=self._ready,
            error=self._error,
            alive=self._error is None,
            accused=() if report is None else report.accused[:_ACCUSED_MAX],
            worn_out=self._worn_out(report),
            # One that refuses requests cannot be made to take them again.
            leaving=self._leaving or self._draining is not None,
            warmed=_outcome(self._warming),
        )

    def warm(self, role: Role, peers: Sequence[WorkerInfo], timeout_s: float) -> None:
        if self._ready is not None and self._warming is None:
            self._warming = self._loop.submit(self._warm(self._ready, role, peers, timeout_s))

    def peers_dead(self, agents: Sequence[str]) -> None:
        if self._engine is not None:
            self._loop.submit(self._engine.peers_dead(agents)).add_done_callback(_complain)

    def drain(self, timeout_s: float) -> None:
        if self._worker is not None and self._draining is None:
            self._draining = self._loop.submit(self._worker.drain(timeout_s))

    def drained(self) -> bool:
        worker = self._worker
        return worker is None or self._delivered.all(worker.legs, worker.tally.transfer)

    def leave(self) -> bool:
        if self._ready is None or self._error is not None:
            return False
        self._leaving = True
        self._loop.submit(self._leave())
        return True

    def stop(self, timeout_s: float) -> None:
        self._loop.stop(self._stop(), timeout_s)

    def pids(self) -> list[int]:
        engine = [] if self._ready is None else [self._ready.engine_pid]
        return [os.getpid(), *engine]

    def _worn_out(self, report: TransferReport | None) -> str:
        if self._engine is None:
            return ""
        share_max = self._settings.kv_transfer.quarantine_max_share
        return worn_out(report, self._engine.facts.kv_blocks, share_max)

    # -- on the loop

    async def _start(self) -> None:
        self._ready = await self._start_all()

    async def _warm(
        self, own: WorkerInfo, role: Role, peers: Sequence[WorkerInfo], timeout_s: float
    ) -> str:
        assert self._engine is not None
        assert self._worker is not None
        try:
            warming = _warming(own, self._engine.facts, self._settings.tls)
            wrong = await warming.run(role, peers, timeout_s)
            found = await self._engine.transfer_report()
            self._worker.tally.reported(found)
            self._worker.outlook.transferred(found)
        finally:
            self._worker.outlook.learning.forget()
        return wrong

    def _set_error(self, error: Mapping[str, str]) -> None:
        self._error = error

    async def _start_all(self) -> WorkerInfo:
        settings = self._settings
        found = preflight.check(settings, model_path(settings), preflight.this_machine())
        self._check_digest(found.digest)
        handoff = self.choose_handoff(settings.kv_transfer)
        self._set_environment(found.device, handoff)
        self._spans = spans = span_sink(settings, "baton-worker", self._worker_id)
        engine, texts = await _start_engine(settings, found, handoff, self._worker_id, spans)
        self._engine = engine
        self._worker = Worker(
            engine, _roles(handoff), self._limits(), MonotonicClock(), self._failed, texts
        )
        self._server = WorkerServer(self._worker, worker_credentials(settings.tls))
        host = listen_at(settings.cluster.bind_host, own_address)
        port = self._server.bind(host)
        if settings.engine.metrics:
            self._metrics = MetricsServer(host)
        info = self._info(engine.facts, handoff, port)
        if texts is not None:
            info = replace(info, direct_address=await self._serve_clients(self._worker))
        await self._server.start(info)
        return info

    async def _serve_clients(self, worker: Worker) -> str:
        """Where they reach it. Raises StartupError."""
        from deploy.direct import DirectServer

        router = self._settings.router
        self._direct = DirectServer(worker.direct, server_credentials(self._settings.tls))
        host = listen_at(router.direct_host, own_address)
        port = await self._direct.start(host, router.direct_port)
        return with_port(reached_at(router.direct_host, own_address), port)

    def _check_digest(self, digest: str) -> None:
        """What this machine finds must be what the rest of the cluster was started with."""
        if digest != self._digest:
            raise BatonError(
                Reason.CONFIG_MISMATCH,
                f"this machine's model, vLLM or number format differs (digest {digest}, the "
                f"cluster has {self._digest})",
            )

    def _set_environment(self, device: str, handoff: Handoff) -> None:
        set_environment(self._settings, device, handoff, self._core_index)

    def _limits(self) -> Limits:
        settings = self._settings
        pool = settings.prefill if self._role is Role.PREFILL else settings.decode
        return Limits(
            queued_requests_max=pool.max_queued_requests,
            retry_after_s=settings.router.retry_after_s,
            silence_timeout_s=settings.engine.step_silence_timeout_s,
        )

    def _info(self, facts: EngineFacts, handoff: Handoff, port: int) -> WorkerInfo:
        host, metrics = reached_at(self._settings.cluster.bind_host, own_address), self._metrics
        return WorkerInfo(
            worker_id=self._worker_id,
            incarnation=self._incarnation,
            role=self._role,
            address=with_port(host, port),
            config_digest=self._digest,
            connector=handoff.name,
            dispatch=handoff.dispatch,
            served_model=served_name(self._settings),
            max_model_len_tokens=facts.max_model_len_tokens,
            block_size_tokens=facts.block_size_tokens,
            kv_blocks=facts.kv_blocks,
            dtype=facts.dtype,
            device=facts.device,
            vllm_version=facts.vllm_version,
            pid=os.getpid(),
            engine_pid=facts.pid,
            transfer_endpoint=facts.transfer_endpoint,
            transfer_agent=transfer_agent(facts),
            engine_started=started(facts.pid),
            metrics_address="" if metrics is None else with_port(host, metrics.port),
            engine_ranks=ranks(facts),
        )

    def _failed(self, error: BatonError) -> None:
        self._set_error(error.to_wire())

    async def _leave(self) -> None:
        """The controller drains and stops this one. If nobody does, it goes by itself."""
        await asyncio.sleep(_NOTICE_S)
        drain_s = self._settings.cluster.drain_timeout_s
        self.drain(drain_s)
        await until(self.drained, drain_s)
        await asyncio.sleep(_STOPPED_WITHIN_S)
        await self._stop()
        os._exit(0)

    async def _stop(self) -> None:
        if self._metrics is not None:
            await asyncio.to_thread(self._metrics.stop)
        if self._direct is not None:
            await self._direct.stop(grace_s=0.5)
        if self._server is not None:
            await self._server.stop(grace_s=0.5)
        if self._engine is not None:
            await asyncio.to_thread(self._engine.shutdown, _ENGINE_STOP_S)
        await close_spans(self._spans)


def _complain(done: Future[None]) -> None:
    error = None if done.cancelled() else done.exception()
    if error is not None:
        _log.warning("the engine did not hear of the end of its peers: %s", error)


def _warming(own: WorkerInfo, facts: EngineFacts, tls: TlsSettings) -> Warming:
    # Late, as for the engine.
    from engine.tiny_request import tiny_request, tiny_tokens

    return Warming(own, partial(tiny_request, facts), tiny_tokens(facts), dialer(tls))


def _outcome(warming: Future[str] | None) -> str | None:
    if warming is None or not warming.done():
        return None
    # Whatever it is: a worker that was not warmed serves all the same.
    error = CancelledError() if warming.cancelled() else warming.exception()
    return warming.result() if error is None else f"first requests: {error!r}"


def _roles(handoff: Handoff) -> dict[int, Any]:
    # Every worker can run every kind of leg; which ones it gets is the router's choice.
    return {
        wire.LEG_PREFILL: PrefillRole(handoff),
        wire.LEG_DECODE: DecodeRole(handoff),
        wire.LEG_SOLO: SoloRole(),
    }
