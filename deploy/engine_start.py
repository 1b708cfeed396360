"""Starts a real engine in the process that calls: its environment first, then vLLM."""

from __future__ import annotations

import os

from baton.settings import Settings, extend_process_environ
from baton.spans import SpanSink
from cluster.addresses import reached_at
from cluster.ray_nodes import own_address
from deploy.imports import uncollected
from deploy.model import served_name
from engine import preflight
from engine.direct import Texts
from engine.environment import cores_for, engine_environment
from engine.ports import Engine
from kv_transfer.handoff import Handoff


def set_environment(settings: Settings, device: str, handoff: Handoff, core_index: int) -> None:
    """What vLLM, NIXL and UCX read when they are imported."""
    host = reached_at(settings.cluster.bind_host, own_address)
    available = tuple(sorted(os.sched_getaffinity(0)))
    threads = settings.engine.cpu_threads
    of_all_ranks = threads * settings.engine.tensor_parallel_size
    cores = cores_for(core_index, of_all_ranks, available)
    extend_process_environ(engine_environment(device, threads, cores, host))
    extend_process_environ(handoff.environment(host))


async def start_engine(
    settings: Settings,
    found: preflight.Preflight,
    handoff: Handoff,
    worker_id: str,
    spans: SpanSink | None,
) -> tuple[Engine, Texts | None]:
    """A running engine, after `set_environment`, and what makes text of its tokens where clients
    may read them from the worker itself. Raises StartupError."""
    # Late: importing vLLM takes seconds and reads the environment set above.
    with uncollected():
        from engine.core import EngineCore
        from engine.direct_text import Texts as EngineTexts
        from engine.spec import EngineSpec

    spec = EngineSpec(
        model_path=found.model.path,
        served_name=served_name(settings),
        device=found.device,
        dtype=found.dtype,
        settings=settings,
        transfer_config=handoff.transfer_config(found.device),
        worker_id=worker_id,
        spans=spans,
    )
    engine = await EngineCore.start(spec, os.getpid())
    return engine, EngineTexts(engine.config) if settings.router.direct else None
