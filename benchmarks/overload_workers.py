"""All simulated workers in one process: Baton's worker code as it is, each behind its own port."""

from __future__ import annotations

import asyncio
import contextlib
import os
from multiprocessing.connection import Connection
from typing import Any

from baton.clock import MonotonicClock
from baton.errors import BatonError
from baton.ids import WorkerId
from baton.messages import Role, WorkerInfo
from baton.settings import Settings
from baton.wire import worker_pb2 as wire
from benchmarks.overload_engine import Office, SimulatedClient
from benchmarks.overload_plan import DECODE_WORKERS, PREFILL_WORKERS, Times
from decode_worker import DecodeRole, SoloRole
from deploy.model import served_name
from engine.core import EngineCore
from engine.leg_spans import LegSpans
from engine.limits import Limits
from engine.ports import EngineFacts
from engine.service import WorkerServer
from engine.worker import Worker
from kv_transfer.handoff import Handoff, handoff_for
from prefill_worker import PrefillRole

_FACTS = EngineFacts(
    max_model_len_tokens=8192,
    block_size_tokens=16,
    kv_blocks=65_536,
    dtype="float32",
    device="cpu",
    vllm_version="0",
    pid=os.getpid(),
    # Nobody goes there; but a handoff has to name its other end.
    transfer_endpoint=b"simulated",
)


async def serve(pipe: Connection, settings: Settings, digest: str, times: Times) -> None:
    """Start them, tell who they are, and end them when told to or when nobody is left to tell."""
    crew = _Crew(settings, digest, times)
    pipe.send(await crew.start())
    with contextlib.suppress(EOFError):
        await asyncio.to_thread(pipe.recv)
    await crew.stop()


class _Crew:
    def __init__(self, settings: Settings, digest: str, times: Times) -> None:
        self._settings = settings
        self._digest = digest
        self._times = times
        self._office = Office()
        self._handoff = handoff_for(settings.kv_transfer)
        self._servers: list[WorkerServer] = []

    async def start(self) -> tuple[WorkerInfo, ...]:
        prefill = [await self._start(Role.PREFILL, number) for number in range(PREFILL_WORKERS)]
        decode = [await self._start(Role.DECODE, number) for number in range(DECODE_WORKERS)]
        return (*prefill, *decode)

    async def stop(self) -> None:
        await asyncio.gather(*(server.stop(0) for server in self._servers))

    async def _start(self, role: Role, number: int) -> WorkerInfo:
        server = WorkerServer(self._worker(role))
        self._servers.append(server)
        host = self._settings.cluster.bind_host
        address = f"{host}:{server.bind(host)}"
        info = self._info(WorkerId(f"{role.value}-{number}"), role, address)
        await server.start(info)
        return info

    def _worker(self, role: Role) -> Worker:
        kv_tokens = _FACTS.kv_blocks * _FACTS.block_size_tokens
        client: Any = SimulatedClient(self._times, kv_tokens, self._office)
        engine = EngineCore(client, _FACTS, LegSpans(None, ""))
        return Worker(engine, _roles(self._handoff), self._limits(role), MonotonicClock(), _failed)

    def _limits(self, role: Role) -> Limits:
        settings = self._settings
        pool = settings.prefill if role is Role.PREFILL else settings.decode
        return Limits(
            queued_requests_max=pool.max_queued_requests,
            retry_after_s=settings.router.retry_after_s,
            silence_timeout_s=settings.engine.step_silence_timeout_s,
        )

    def _info(self, worker_id: WorkerId, role: Role, address: str) -> WorkerInfo:
        return WorkerInfo(
            worker_id=worker_id,
            incarnation=1,
            role=role,
            address=address,
            config_digest=self._digest,
            connector=self._handoff.name,
            dispatch=self._handoff.dispatch,
            served_model=served_name(self._settings),
            max_model_len_tokens=_FACTS.max_model_len_tokens,
            block_size_tokens=_FACTS.block_size_tokens,
            kv_blocks=_FACTS.kv_blocks,
            dtype=_FACTS.dtype,
            device=_FACTS.device,
            vllm_version=_FACTS.vllm_version,
            pid=_FACTS.pid,
            engine_pid=_FACTS.pid,
            transfer_endpoint=_FACTS.transfer_endpoint,
        )


def _roles(handoff: Handoff) -> dict[int, Any]:
    return {
        wire.LEG_PREFILL: PrefillRole(handoff),
        wire.LEG_DECODE: DecodeRole(handoff),
        wire.LEG_SOLO: SoloRole(),
    }


def _failed(_error: BatonError) -> None:
    # Nothing that is measured from here on would mean anything; the requests tell of the loss.
    os._exit(1)
