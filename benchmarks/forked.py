"""A short run's processes, forked from one that has imported vLLM.

Importing costs 10 s of computing, and a pair of workers has four processes that do it, the run
itself a fifth. Production spawns them, and so do the tests of engines. What a library reads when it
is loaded (the OpenMP runtime its number of threads) has to be in the environment of the process
that loads it, so that one gets what an engine's owner would set. The library of a transport reads
its settings when the engine loads it: NIXL is not loaded before the fork.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from baton.settings import extend_process_environ
from engine.environment import cores_for, engine_environment

_LOADED = "benchmarks.loaded"
_THREADS = 1
_T = TypeVar("_T")


def call(function: Callable[..., _T], *arguments: object) -> _T:
    """Call it in such a process, from where `context` begins more of them. What it raises is
    printed there and ends this process with status 1."""
    cores = cores_for(0, _THREADS, tuple(sorted(os.sched_getaffinity(0))))
    extend_process_environ(engine_environment("cpu", _THREADS, cores, "127.0.0.1"))
    multiprocessing.set_forkserver_preload([_LOADED])
    ours, theirs = multiprocessing.Pipe()
    process = context().Process(target=_call, args=(theirs, function, arguments))
    process.start()
    theirs.close()
    try:
        answer: _T = ours.recv()
    except EOFError:
        raise SystemExit(1) from None
    process.join()
    return answer


def _call(control: Connection, function: Callable[..., object], arguments: Any) -> None:
    # The server that forked this process goes on serving it; on its own it would start another.
    server: Any = vars(forkserver)["_forkserver"]
    server.ensure_running = lambda: None
    control.send(function(*arguments))


def context() -> Any:
    """How owners of engines begin."""
    return multiprocessing.get_context("forkserver")


def fork_engines() -> None:
    """In an owner: its engine, and the engine's ranks, are forks of it. On CPU vLLM insists on
    spawning, since threads that compute do not survive a fork; here nothing has been computed
    before it."""
    from vllm.v1.engine import utils
    from vllm.v1.executor import multiproc_executor

    for module in (utils, multiproc_executor):
        vars(module)["get_mp_context"] = lambda: multiprocessing.get_context("fork")
