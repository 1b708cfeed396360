"""The worker's gRPC service: links, reports, drain, health."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import grpc
from grpc_health.v1 import _async as health
from grpc_health.v1 import health_pb2, health_pb2_grpc

from baton.errors import BatonError, Reason, StartupError, StartupFault
from baton.messages import WorkerInfo
from baton.tasks import TaskFault, Tasks
from baton.wire import worker_pb2 as wire
from baton.wire import worker_pb2_grpc as wire_grpc
from baton.wire.batch import each
from baton.wire.credentials import listen
from engine.frames import load_message
from engine.link import Link as RouterLink
from engine.transfers import transfer_message
from engine.worker import Worker

HEARTBEAT_S = 0.25
STALL_S = 10.0
"""A router that takes no frame for this long reads too slowly."""
MESSAGE_BYTES_MAX = 64 * 1024 * 1024
_OPTIONS = [
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    # Routers ping a silent link every 10 s.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    # Two workers must not share a port by accident.
    ("grpc.so_reuseport", 0),
]


_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class WorkerService(wire_grpc.WorkerServicer):
    """Speaks for one worker. Owns its tasks, not the engine."""

    def __init__(self, worker: Worker, info: WorkerInfo, tasks: Tasks) -> None:
        self._worker = worker
        self._info = info
        self._tasks = tasks
        self._started_at = time.monotonic()

    async def Link(  # type: ignore[override]
        self,
        request_iterator: AsyncIterator[wire.RouterMessage],
        context: _Context,
    ) -> None:
        hello = await self._greet(request_iterator, context)
        link = self._worker.open_link(hello.router_id)
        reader = self._tasks.spawn(self._read(request_iterator, link), f"read {hello.router_id}")
        try:
            await _write(link, context)
        finally:
            reader.cancel()
            await self._worker.close_link(link)
        if link.broken:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "the router reads too slowly")

    async def _greet(
        self, messages: AsyncIterator[wire.RouterMessage], context: _Context
    ) -> wire.Hello:
        async for message in messages:
            if message.WhichOneof("message") == "hello":
                await self._refuse_strangers(message.hello, context)
                return message.hello
            break
        return await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a link begins with a hello")

    async def _refuse_strangers(self, hello: wire.Hello, context: _Context) -> None:
        if hello.config_digest != self._info.config_digest:
            await context.abort(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"config digest {hello.config_digest}, this worker has {self._info.config_digest}",
            )

    async def _read(self, messages: AsyncIterator[wire.RouterMessage], link: RouterLink) -> None:
        try:
            async for message in messages:
                for one in each(message):
                    await self._hear(link, one)
        finally:
            link.frames.put_nowait(None)

    async def _hear(self, link: RouterLink, message: wire.RouterMessage) -> None:
        kind = message.WhichOneof("message")
        if kind == "submit":
            await self._worker.submit(link, message.submit)
        elif kind == "abort":
            await self._worker.abort(link, message.abort.leg_ids)
        elif kind == "probe":
            self._worker.probe(link, message.probe)
        elif kind == "resync":
            self._worker.resync(link)

    async def Describe(
        self, request: wire.DescribeRequest, context: _Context
    ) -> wire.WorkerDescription:
        info = self._info
        return wire.WorkerDescription(
            worker_id=info.worker_id,
            incarnation=info.incarnation,
            role=info.role.value,
            config_digest=info.config_digest,
            connector=info.connector,
            dispatch=info.dispatch.value,
            served_model=info.served_model,
            max_model_len_tokens=info.max_model_len_tokens,
            block_size_tokens=info.block_size_tokens,
            kv_blocks=info.kv_blocks,
            dtype=info.dtype,
            device=info.device,
            vllm_version=info.vllm_version,
            pid=info.pid,
            engine_pid=info.engine_pid,
            transfer_endpoint=info.transfer_endpoint,
            transfer_agent=info.transfer_agent,
        )

    async def Report(self, request: wire.ReportRequest, context: _Context) -> wire.WorkerReport:
        tally = self._worker.tally
        return wire.WorkerReport(
            load=load_message(self._worker.load()),
            links=self._worker.links,
            legs=self._worker.legs,
            submitted=tally.submitted,
            refused=tally.refused,
            finished=tally.finished,
            aborted=tally.aborted,
            failed=tally.failed,
            uptime_s=time.monotonic() - self._started_at,
            transfer=None if tally.transfer is None else transfer_message(tally.transfer),
        )

    async def Drain(  # type: ignore[override]
        self, request: wire.DrainRequest, context: _Context
    ) -> None:
        timeout_s = request.timeout_s or None
        done = self._tasks.spawn(self._worker.drain(timeout_s), "drain")
        left = -1
        while not done.done():
            if left != self._worker.legs:
                left = self._worker.legs
                await context.write(wire.DrainProgress(legs_left=left))
            await asyncio.wait([done], timeout=HEARTBEAT_S)
        await context.write(wire.DrainProgress(legs_left=self._worker.legs, done=True))


async def _write(link: RouterLink, context: _Context) -> None:
    """Send frames until the link ends. One that takes none of them any more is cut."""
    while not link.broken and (frame := await link.frames.get()) is not None:
        try:
            async with asyncio.timeout(STALL_S):
                await context.write(frame)
        except TimeoutError:
            link.cut()


class WorkerServer:
    """The listening socket and the tasks behind it."""

    def __init__(self, worker: Worker, credentials: grpc.ServerCredentials | None = None) -> None:
        self._worker = worker
        self._credentials = credentials
        self._tasks = Tasks("worker service")
        self._health = health.HealthServicer()
        self._server = grpc.aio.server(options=_OPTIONS)

    def bind(self, host: str, port: int = 0) -> int:
        """Raises StartupError PORT_TAKEN."""
        try:
            return listen(self._server, host, port, self._credentials)
        except RuntimeError as error:
            raise StartupError(StartupFault.PORT_TAKEN, f"{host}:{port} is taken") from error

    async def start(self, info: WorkerInfo) -> None:
        service = WorkerService(self._worker, info, self._tasks)
        wire_grpc.add_WorkerServicer_to_server(service, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        await self._health.set("", health_pb2.HealthCheckResponse.SERVING)
        await self._server.start()
        self._tasks.spawn(self._worker.run(), "engine steps", on_fault=self._broken)
        self._tasks.spawn(self._beat(), "heartbeat", eternal=True, on_fault=self._broken)
        # An engine that cannot tell serves all the same.
        self._tasks.spawn(self._ask(), "transfer reports", eternal=True)

    def _broken(self, fault: TaskFault) -> None:
        # Without either loop the worker would look alive and answer nobody.
        self._worker.fail(BatonError(Reason.ENGINE_FAILED, f"{fault.task}: {fault.error}"))

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            self._worker.heartbeat()
            await self._worker.direct.sweep()

    async def _ask(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            await self._worker.ask_after_transfers()

    async def stop(self, grace_s: float) -> None:
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_s)
        await self._tasks.aclose()
