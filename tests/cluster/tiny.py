"""Workers and routers without an engine: what Ray runs in these tests."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from typing import Any

from baton.errors import BatonError, Reason
from baton.ids import router_digest
from baton.messages import ClusterView, Role, WorkerInfo
from baton.signals import RouterSignals
from cluster.ports import RouterProgress, RouterRow, ScalingRow, StartProgress
from tests.unit.cluster.samples import DIGEST, info


class TinyWorker:
    """Ready at once; its pid is its info's pid."""

    def __init__(
        self,
        settings_dump: dict[str, Any],
        worker_id: str,
        incarnation: int,
        role: str,
        core_index: int,
        digest: str,
    ) -> None:
        self.ready = info(worker_id, incarnation, Role(role), digest)
        self.core_index = core_index
        self.leaving = False
        # As an engine does: a semaphore that a killed process leaves in shared memory.
        self.lock = multiprocessing.get_context("spawn").Lock()

    def start(self) -> None: ...

    def progress(self) -> StartProgress:
        return StartProgress("ready", ready=self.ready, leaving=self.leaving, warmed="")

    def warm(self, role: Role, peers: Sequence[WorkerInfo], timeout_s: float) -> None: ...

    def peers_dead(self, agents: Sequence[str]) -> None: ...

    def drain(self, timeout_s: float) -> None: ...

    def drained(self) -> bool:
        return True

    def leave(self) -> bool:
        self.leaving = True
        return True

    def stop(self, timeout_s: float) -> None: ...

    def pids(self) -> list[int]:
        return [os.getpid()]

    def env(self, name: str) -> str | None:
        return os.environ.get(name)

    def groups(self) -> tuple[int, bool]:
        """Its process group, and whether a Ctrl-C would reach it from another one."""
        return os.getpgid(0), signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])

    def refuse(self) -> None:
        raise BatonError(Reason.WORKER_FULL, "no room", retry_after_s=2.0)

    def break_down(self) -> None:
        raise ValueError("not like this")

    def hang(self) -> None:
        threading.Event().wait(30)


class TinyRouter:
    """Ready at once, and remembers the version of its view."""

    def __init__(self, settings_dump: dict[str, Any], router_id: str, digest: str) -> None:
        self.view = ClusterView(-1)
        self.digest = router_digest(settings_dump, digest) if settings_dump else ""
        self.leaving = False

    def start(self, door: str = "") -> None: ...

    def progress(self) -> RouterProgress:
        url, version = "http://127.0.0.1:1", self.view.version
        return RouterProgress(url, None, True, self.leaving, version, self.digest)

    def set_view(
        self,
        view: ClusterView,
        routers: Sequence[RouterRow] = (),
        scaling: ScalingRow | None = None,
    ) -> None:
        self.view = view

    def signals(self) -> RouterSignals | None:
        return None

    def status(self) -> dict[str, Any]:
        return {"ready": len(self.view.ready(Role.DECODE))}

    def drain(self, timeout_s: float) -> None: ...

    def drained(self) -> bool:
        return True

    def offer(self) -> str:
        return ""

    def withdraw(self) -> None: ...

    def clients(self) -> int:
        return 0

    def leave(self) -> bool:
        self.leaving = True
        return True

    def stop(self, timeout_s: float) -> None: ...


def main(run_dir: str) -> int:
    """`baton serve` with these classes, in a process of its own."""
    from baton.settings import load
    from deploy.serve import Classes, serve

    overrides = {
        "cluster.run_dir": run_dir,
        "cluster.ray_address": "local",
        "router.port": 0,
        "cluster.restart_backoff_s": 0.1,
        "cluster.health_interval_s": 0.2,
    }
    settings = load(None, {}, overrides).settings
    return serve(settings, classes=Classes(TinyWorker, TinyRouter, DIGEST, "tiny", "cpu"))
