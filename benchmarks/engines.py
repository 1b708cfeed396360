"""A prefill and a decode worker, each in a process of its own, without Ray or router."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from baton.messages import WorkerInfo
from baton.settings import KvTransferSettings, Settings
from benchmarks import forked, reference
from deploy.model import model_path
from engine import preflight
from kv_transfer.handoff import Handoff, handoff_for

START_S = 110.0
STOP_S = 20.0
LEFTOVERS_S = 5.0
_SHARED = Path("/dev/shm")  # noqa: S108 - looked at only
SETTINGS: dict[str, Any] = {
    **reference.SETTINGS,
    "log": {"level": "warning"},
}
PULL: dict[str, Any] = {
    "connector": "vllm-nixl-pull",
    "abort_timeout_s": 6.0,
    "on_load_failure": "fail",
}
PUSH: dict[str, Any] = {
    "connector": "baton",
    "abort_timeout_s": 6.0,
    "verify": "full",
}


@dataclass(frozen=True)
class Setup:
    """What a pair of workers is to be. `handoff` takes the place of the one the settings name."""

    transfer: dict[str, Any]
    settings: dict[str, Any]
    handoff: Callable[[KvTransferSettings], Handoff] | None = None
    forked: bool = False
    """Forked from a process that has imported vLLM (see `forked`); production spawns."""


WITH_PUSH = Setup(PUSH, SETTINGS)


def work(control: Connection, name: str, role: str, index: int, setup: Setup) -> None:
    """The life of one worker's process: start, answer questions about progress, stop."""
    _own_resource_tracker()
    if setup.forked:
        forked.fork_engines()
    from deploy.worker_process import WorkerProcess

    settings = Settings.model_validate({**setup.settings, "kv_transfer": setup.transfer})
    found = preflight.check(settings, model_path(settings), preflight.this_machine())
    dump = settings.model_dump()
    worker = WorkerProcess(dump, name, 1, role, index, found.digest)
    worker.choose_handoff = setup.handoff or handoff_for
    worker.start()
    # Whoever asked may be gone: the engine must not outlive it.
    with contextlib.suppress(EOFError):
        while control.recv() == "progress":
            control.send(worker.progress())
    worker.stop(STOP_S)


def _own_resource_tracker() -> None:
    # As in a process that was not started by `multiprocessing`: its tracker removes the semaphores
    # that killed engines leave. The test's own tracker would do so only after the tests.
    tracker: Any = vars(resource_tracker)["_resource_tracker"]
    vars(tracker).update(_fd=None, _pid=None)


@dataclass
class Started:
    """One worker, seen from the test's process."""

    process: BaseProcess
    control: Connection
    info: WorkerInfo

    def progress(self) -> Any:
        """Ask the worker's owner how it is."""
        self.control.send("progress")
        assert self.control.poll(10), "the worker's process does not answer"
        return self.control.recv()


class ClusterOfTwo:
    """Both workers. `stop` ends them, `leftovers` tells what outlived that."""

    def __init__(self, setup: Setup) -> None:
        self._shared_before = shared_memory()
        context = forked.context() if setup.forked else multiprocessing.get_context("spawn")
        roles = enumerate(("prefill", "decode"))
        starting = [launch(context, f"{role}-0", role, i, setup) for i, role in roles]
        try:
            self.prefill, self.decode = (until_ready(*each) for each in starting)
        except BaseException:
            for process, _ in starting:
                process.kill()
            raise

    def stop(self) -> None:
        """Ask both to stop, and insist."""
        workers = (self.prefill, self.decode)
        for worker in workers:
            if worker.process.is_alive():
                worker.control.send("stop")
        for worker in workers:
            worker.process.join(STOP_S)
            if worker.process.is_alive():
                worker.process.kill()
                raise AssertionError(f"{worker.info.worker_id} did not stop in {STOP_S} s")

    def leftovers(self) -> list[str]:
        """Processes and shared memory that should be gone, and are not within some seconds."""
        until(lambda: not self._left(), LEFTOVERS_S)
        return self._left()

    def _left(self) -> list[str]:
        pids = [p for w in (self.prefill, self.decode) for p in (w.info.pid, w.info.engine_pid)]
        alive = [f"process {pid}" for pid in pids if is_alive(pid)]
        return alive + sorted(shared_memory() - self._shared_before)


def launch(
    context: Any, name: str, role: str, index: int, setup: Setup
) -> tuple[BaseProcess, Connection]:
    """Start one worker's process, on the `index`-th core, and do not wait for it."""
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(theirs, name, role, index, setup), name=name)
    process.start()
    theirs.close()
    return process, ours


def until_ready(process: BaseProcess, control: Connection) -> Started:
    """Wait for a worker that was launched."""
    give_up_at = time.monotonic() + START_S
    while time.monotonic() < give_up_at:
        control.send("progress")
        progress = control.recv()
        if progress.error is not None:
            raise AssertionError(f"{process.name} did not start: {progress.error}")
        if progress.ready is not None:
            return Started(process, control, progress.ready)
        time.sleep(0.2)
    raise AssertionError(f"{process.name} was not ready in {START_S} s")


@contextlib.contextmanager
def run_folder(name: str, left: list[str]) -> Iterator[Path]:
    """A folder for a run; what the run leaves in shared memory is added to `left`."""
    before = shared_memory()
    with tempfile.TemporaryDirectory(prefix=f"baton-{name}-") as folder:
        yield Path(folder)
    left += sorted(shared_memory() - before)


def shared_memory() -> set[str]:
    """What lies in shared memory; Ray's own belongs to others."""
    return {path.name for path in _SHARED.iterdir() if not path.name.startswith("plasma")}


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that only waits to be reaped does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def gone_within(pid: int, seconds: float) -> bool:
    """Wait for a process to end."""
    return until(lambda: not is_alive(pid), seconds)


def until(done: Callable[[], bool], seconds: float) -> bool:
    """Wait for something, and tell whether it came."""
    give_up_at = time.monotonic() + seconds
    while not done() and time.monotonic() < give_up_at:
        time.sleep(0.02)
    return done()


def kill(pid: int) -> None:
    """As `kill -9` does it."""
    os.kill(pid, 9)
