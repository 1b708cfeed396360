"""The router in a process of its own, and all simulated workers in another one.

The router is the real one. The workers are Baton's own worker code over real gRPC, all of it but
vLLM's engine process, in whose place stands `overload_engine`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import uvloop

from baton.settings import Settings, extend_process_environ
from benchmarks.nodes import route, settle_in, start, view_of
from benchmarks.overload_plan import Times
from deploy.imports import uncollected
from deploy.model import model_path, resolved
from engine import preflight
from engine.environment import engine_environment

_NICE = 10
"""The router is what is measured: workers take what it leaves."""


@dataclass(frozen=True, slots=True)
class Nodes:
    """Where the router listens, and which process it is."""

    url: str
    router_pid: int


@contextlib.contextmanager
def running(settings: Settings, times: Times) -> Iterator[Nodes]:
    """Start workers and router, and end them. Raises RuntimeError if they do not start."""
    digest = preflight.check(settings, model_path(settings), preflight.this_machine()).digest
    dump = resolved(settings).model_dump()
    children = [start(route, dump, digest), start(_workers, dump, digest, times)]
    router, workers = children
    try:
        infos = workers.word()
        url = router.word().ready_url
        router.pipe.send(view_of(infos))
        router.word()
        yield Nodes(url, router.process.pid or 0)
    finally:
        for child in children:
            child.end()


def _workers(pipe: Connection, dump: dict[str, Any], digest: str, times: Times) -> None:
    settle_in()
    settings = Settings.model_validate(dump)
    host = settings.cluster.bind_host
    extend_process_environ(engine_environment("cpu", 1, (0,), host))
    # Late: importing vLLM takes seconds and reads the environment set above.
    with uncollected():
        from benchmarks.overload_workers import serve
    os.nice(_NICE)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(pipe, settings, digest, times))
    os._exit(0)
