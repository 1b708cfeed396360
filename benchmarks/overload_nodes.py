"""The router in a process of its own, and all simulated workers in another one.

The router is the real one. The workers are Baton's own worker code over real gRPC, all of it but
vLLM's engine process, in whose place stands `overload_engine`.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import uvloop

from baton.messages import ClusterView, Member, WorkerInfo, WorkerState
from baton.settings import Settings, extend_process_environ
from benchmarks.overload_plan import Times
from deploy.imports import uncollected
from deploy.model import model_path, resolved
from engine import preflight
from engine.environment import engine_environment

_CONTEXT = multiprocessing.get_context("spawn")
_POLL_S = 0.05
_END_S = 5.0
_NICE = 10
"""The router is what is measured: workers take what it leaves."""


@dataclass(frozen=True, slots=True)
class Nodes:
    """Where the router listens, and which process it is."""

    url: str
    router_pid: int


@dataclass(frozen=True, slots=True)
class _Child:
    process: BaseProcess
    pipe: Connection

    def word(self) -> Any:
        """The next thing it says. Raises RuntimeError if it ended or says that it failed."""
        try:
            word = self.pipe.recv()
        except EOFError:
            raise RuntimeError(f"{self.process.name} ended") from None
        if isinstance(word, str) and word:
            raise RuntimeError(f"{self.process.name}: {word}")
        return word

    def end(self) -> None:
        with contextlib.suppress(OSError):
            self.pipe.send(None)
        self.process.join(_END_S)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


@contextlib.contextmanager
def running(settings: Settings, times: Times) -> Iterator[Nodes]:
    """Start workers and router, and end them. Raises RuntimeError if they do not start."""
    digest = preflight.check(settings, model_path(settings), preflight.this_machine()).digest
    dump = resolved(settings).model_dump()
    children = [_start(_router, dump, digest), _start(_workers, dump, digest, times)]
    router, workers = children
    try:
        infos = workers.word()
        url = router.word()["url"]
        router.pipe.send(_view(infos))
        router.word()
        yield Nodes(url, router.process.pid or 0)
    finally:
        for child in children:
            child.end()


def _start(target: Any, *args: Any) -> _Child:
    ours, theirs = _CONTEXT.Pipe()
    process = _CONTEXT.Process(target=target, args=(theirs, *args), name=target.__name__)
    process.start()
    theirs.close()
    return _Child(process, ours)


def _view(workers: Sequence[WorkerInfo]) -> ClusterView:
    members = tuple(Member(w.worker_id, w.role, WorkerState.READY, w) for w in workers)
    return ClusterView(1, members)


def _router(pipe: Connection, dump: dict[str, Any], digest: str) -> None:
    from deploy.router_process import RouterProcess

    _settle_in()
    router = RouterProcess(dump, "router-0", digest)
    router.start()
    while not (progress := router.progress()).ready_url and progress.error is None:
        time.sleep(_POLL_S)
    pipe.send(str(progress.error) if progress.error else {"url": progress.ready_url})
    with contextlib.suppress(EOFError):
        while (view := pipe.recv()) is not None:
            router.set_view(view)
            _wait_for_links(router, len(view.members))
            pipe.send({})
    router.stop(1)
    os._exit(0)


def _wait_for_links(router: Any, wanted: int) -> None:
    while sum(worker["up"] for worker in router.status().get("workers", [])) < wanted:
        time.sleep(_POLL_S)


def _workers(pipe: Connection, dump: dict[str, Any], digest: str, times: Times) -> None:
    _settle_in()
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


def _settle_in() -> None:
    # Ctrl-C is for the benchmark; it ends its children in order. Their logs are nobody's.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(null, stream)
