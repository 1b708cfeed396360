"""vLLM's NIXL connectors without NIXL's progress thread, for engines on CPU.

That thread polls one full core per engine, idle or not; on a machine where engines compute on CPU
it takes the cores they need. Nothing is lost without it: vLLM keeps stepping an engine, and each
step polls its agent, for as long as blocks wait to be fetched or to arrive.

vLLM also calls an agent from several threads: handshakes have one, and the pushing connector writes
and listens on another than the engine's. With the progress thread NIXL makes UCX safe for that;
without it, it has to be told to let in one call at a time (else the engine dies of a segmentation
fault, seen on TCP).

And vLLM binds the thread that makes a connector to the last core of each NUMA node, away from
OpenMP's threads. An engine with one thread computes on that very thread: all engines of a machine
would share a core. So the binding is undone.

The pushing connector pairs prefill's blocks with decode's by the request ids of the two engines,
which it takes to be equal up to a random end. Ours differ in the kind of leg, so the pairing is
told about that, on GPUs too. One of the few files that touch vLLM's internals (covered by the
engine contract tests).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nixl._api import nixl_thread_sync_t
from vllm.distributed.kv_transfer.kv_connector.v1.nixl import base_worker, push_worker
from vllm.distributed.kv_transfer.kv_connector.v1.nixl.connector import (
    NixlPullConnector,
    NixlPushConnector,
)


class QuietNixlPullConnector(NixlPullConnector):
    """Loaded by module path in place of `NixlConnector`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        with _quiet_agents():
            super().__init__(*args, **kwargs)


class PairedNixlPushConnector(NixlPushConnector):
    """Loaded by module path in place of `NixlPushConnector`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # For as long as the process lives: its thread pairs requests at any time.
        push_worker.get_base_request_id = without_kind
        super().__init__(*args, **kwargs)


class QuietNixlPushConnector(PairedNixlPushConnector):
    """The same on CPU."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        with _quiet_agents():
            super().__init__(*args, **kwargs)


def without_kind(leg_id: str) -> str:
    """What the ids of a request's two legs have in common."""
    return leg_id.rpartition(".")[0] or leg_id


@contextmanager
def _quiet_agents() -> Iterator[None]:
    original = base_worker.nixl_agent_config

    def quiet(**settings: Any) -> Any:
        # Worker threads imply a progress thread each.
        settings.pop("num_threads", None)
        strict = nixl_thread_sync_t.NIXL_THREAD_SYNC_STRICT
        return original(**settings, enable_prog_thread=False, sync_mode=strict)

    cores = os.sched_getaffinity(0)
    base_worker.nixl_agent_config = quiet
    try:
        yield
    finally:
        base_worker.nixl_agent_config = original
        os.sched_setaffinity(0, cores)
