"""A prefill and a decode worker whose pools can be looked into, and a router before them."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ClassVar

from baton.messages import ClusterView, Member, WorkerState
from baton.settings import KvTransferSettings, Settings
from benchmarks import forked
from benchmarks.disconnects_plan import CHUNK_TOKENS, Pool
from benchmarks.engines import STOP_S, ClusterOfTwo, Setup, gone_within
from benchmarks.soak_probe import Probe
from deploy.model import model_path
from engine import preflight
from kv_transfer.push import BatonPush

_SETTINGS: dict[str, Any] = {
    "engine": {"max_batched_tokens": CHUNK_TOKENS, "max_running_requests": 64},
    "router": {"port": 0, "disaggregate": "always"},
    # A client that is refused cannot leave.
    "admission": {"shed_at": 0.0},
    "log": {"level": "error"},
}
_START_S = 60.0
_POLL_S = 0.05


class WatchedHandoff(BatonPush):
    """Baton's connector with a window; says what it always says."""

    name: ClassVar[str] = "baton"

    def __init__(self, folder: Path, settings: KvTransferSettings) -> None:
        super().__init__(settings)
        self._folder = folder

    def transfer_config(self, device: str) -> Mapping[str, Any]:
        honest = super().transfer_config(device)
        extra = honest["kv_connector_extra_config"]
        return {
            **honest,
            "kv_connector": "WatchedConnector",
            "kv_connector_module_path": "benchmarks.disconnects_engine",
            "kv_connector_extra_config": {**extra, "disconnects_folder": str(self._folder)},
        }


@dataclass(frozen=True, slots=True)
class Nodes:
    """All that runs."""

    url: str
    prefill: Probe
    decode: Probe

    def look(self) -> tuple[Pool, Pool]:
        """Both pools, prefill's first."""
        pools: Any = (self.prefill.look(), self.decode.look())
        prefill, decode = pools
        return prefill, decode


@contextlib.contextmanager
def running(folder: Path, left: list[str]) -> Iterator[Nodes]:
    """Start all, and end it; `left` gets what outlives that. Raises AssertionError or RuntimeError
    for what does not start or stop."""
    made = Setup({}, _SETTINGS, partial(WatchedHandoff, folder), forked=True)
    with _router() as pipe:
        cluster = ClusterOfTwo(made)
        try:
            yield _linked(pipe, cluster, folder)
        finally:
            cluster.stop()
            left += cluster.leftovers()


def _linked(pipe: Connection, cluster: ClusterOfTwo, folder: Path) -> Nodes:
    workers = (cluster.prefill.info, cluster.decode.info)
    pipe.send(
        ClusterView(1, tuple(Member(w.worker_id, w.role, WorkerState.READY, w) for w in workers))
    )
    if not pipe.poll(_START_S):
        raise RuntimeError(f"the router was not ready in {_START_S} s")
    url, error = pipe.recv()
    if error is not None:
        raise RuntimeError(f"the router did not start: {error}")
    return Nodes(url, *(Probe(folder, worker.engine_pid) for worker in workers))


@contextlib.contextmanager
def _router() -> Iterator[Connection]:
    """Its process; send it the cluster's view, and it sends (URL, None), or (None, the error)."""
    settings = Settings.model_validate(_SETTINGS)
    found = preflight.check(settings, model_path(settings), preflight.this_machine())
    ours, theirs = forked.context().Pipe()
    process = forked.context().Process(
        target=_route, args=(theirs, settings.model_dump(), found.digest), name="router"
    )
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        with contextlib.suppress(OSError):
            ours.send(None)
        if not gone_within(process.pid, STOP_S):
            process.kill()
        process.join()


def _route(pipe: Connection, dump: dict[str, Any], digest: str) -> None:
    """The life of the router's process."""
    from deploy.router_process import RouterProcess

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    router = RouterProcess(dump, "router-0", digest)
    router.start()
    # Whoever asked may be gone: it must not outlive that.
    with contextlib.suppress(EOFError):
        while (view := pipe.recv()) is not None:
            pipe.send(_follow(router, view))
    router.stop(1)
    os._exit(0)


def _follow(router: Any, view: ClusterView) -> tuple[str | None, Any]:
    router.set_view(view)
    give_up_at = time.monotonic() + _START_S
    while (progress := router.progress()).error is None and time.monotonic() < give_up_at:
        workers = router.status().get("workers", [])
        if progress.ready_url and sum(w["up"] for w in workers) == len(view.members):
            return progress.ready_url, None
        time.sleep(_POLL_S)
    return None, progress.error or "no links"
