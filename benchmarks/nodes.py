"""Workers and a router as plain processes, without Ray, for measuring the path between them."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from baton.messages import ClusterView, Member, Role, WorkerInfo, WorkerState
from baton.settings import Settings
from deploy.model import model_path, resolved
from engine import preflight

_CONTEXT = multiprocessing.get_context("spawn")
_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Nodes:
    """A running set of workers and their router."""

    url: str
    router_pid: int
    workers: tuple[WorkerInfo, ...]
    regroup: Callable[[Sequence[Role | None]], None]
    """Gives each worker a role, or takes it away from the router; returns once they are linked."""


@dataclass(frozen=True, slots=True)
class Child:
    """A process that says by its pipe how far it is, and ends when it hears None."""

    process: BaseProcess
    pipe: Connection

    def word(self) -> Any:
        """The next thing it says. Raises RuntimeError if it ended, or says that it failed."""
        try:
            word = self.pipe.recv()
        except EOFError:
            raise RuntimeError(f"{self.process.name} ended") from None
        if (error := getattr(word, "error", None)) is not None:
            raise RuntimeError(f"{self.process.name}: {error}")
        return word

    def end(self) -> None:
        """Returns once it has ended."""
        with contextlib.suppress(OSError):
            self.pipe.send(None)
        self.process.join(15)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


@contextlib.contextmanager
def running(settings: Settings, prefill: int, decode: int) -> Iterator[Nodes]:
    """Start workers and router, and end them. Raises RuntimeError if one does not start."""
    found = preflight.check(settings, model_path(settings), preflight.this_machine())
    digest, dump = found.digest, resolved(settings).model_dump()
    roles = [Role.PREFILL] * prefill + [Role.DECODE] * decode
    children = [start(_worker, dump, digest, role.value, i) for i, role in enumerate(roles)]
    router = start(route, dump, digest)
    try:
        workers = tuple(child.word().ready for child in children)
        url = router.word().ready_url
        router.pipe.send(view_of(workers))
        router.word()
        versions = itertools.count(2)

        def regroup(roles: Sequence[Role | None]) -> None:
            each = zip(workers, roles, strict=True)
            kept = [replace(w, role=role) for w, role in each if role is not None]
            router.pipe.send(view_of(kept, next(versions)))
            router.word()

        yield Nodes(url, router.process.pid or 0, workers, regroup)
    finally:
        for child in [router, *children]:
            child.end()


def start(target: Any, *args: Any) -> Child:
    """Calls a function in a process of its own, with the other end of the pipe before `args`."""
    ours, theirs = _CONTEXT.Pipe()
    process = _CONTEXT.Process(target=target, args=(theirs, *args), name=target.__name__)
    process.start()
    theirs.close()
    return Child(process, ours)


def view_of(workers: Sequence[WorkerInfo], version: int = 1) -> ClusterView:
    """The cluster of these workers."""
    members = tuple(Member(w.worker_id, w.role, WorkerState.READY, w) for w in workers)
    return ClusterView(version, members)


def _worker(pipe: Connection, dump: dict[str, Any], digest: str, role: str, index: int) -> None:
    from deploy.worker_process import WorkerProcess

    settle_in()
    worker = WorkerProcess(dump, f"{role}-{index}", 1, role, index, digest)
    worker.start()
    while not (progress := worker.progress()).ready and progress.error is None:
        time.sleep(_POLL_S)
    pipe.send(progress)
    with contextlib.suppress(EOFError):
        pipe.recv()
    worker.stop(10)
    os._exit(0)


def route(pipe: Connection, dump: dict[str, Any], digest: str) -> None:
    """A router: says that it is ready, and of each view that its workers are linked."""
    from deploy.router_process import RouterProcess

    settle_in()
    router = RouterProcess(dump, "router-0", digest)
    router.start()
    while not (progress := router.progress()).ready_url and progress.error is None:
        time.sleep(_POLL_S)
    pipe.send(progress)
    with contextlib.suppress(EOFError):
        while (view := pipe.recv()) is not None:
            router.set_view(view)
            _wait_for_links(router, len(view.members))
            pipe.send("linked")
    router.stop(1)
    os._exit(0)


def _wait_for_links(router: Any, wanted: int) -> None:
    while sum(w["up"] for w in router.status().get("workers", [])) < wanted:
        time.sleep(_POLL_S)


def settle_in() -> None:
    """For a child process: its output is nobody's, and it is ended by its parent alone."""
    # Ctrl-C is for the benchmark; it ends its children in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(null, stream)
