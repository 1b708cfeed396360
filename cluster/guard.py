"""A small process that cleans up after a Ray of our own when its owner is killed.

Ray's processes die with their owner, but its two agents take another minute, because they first
try to report that to a control store which is dead too; and nobody removes the folder. The guard
reads processes from its standard input. When that ends without a farewell, its owner was killed.
Uses the standard library alone, to be small.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from cluster import shared_memory
from cluster.processes import Process, kill_all

_FAREWELL = "farewell"
_DISMISS_TIMEOUT_S = 5.0


class Guard:
    """The owner's end. `dismiss` ends the guard and leaves everything as it is."""

    def __init__(self, folder: Path) -> None:
        root = Path(__file__).parents[1]
        code = "import sys; sys.path.insert(0, sys.argv[1]); from cluster.guard import main; main()"
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-I", "-c", code, str(root), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def watch(self, processes: Iterable[Process]) -> None:
        """Adds processes to those that are not to outlive the owner."""
        for process in processes:
            self._say(f"{process.pid} {process.started}")

    def dismiss(self) -> None:
        """Lets it go. May be called again."""
        if self._process.poll() is None:
            self._say(_FAREWELL)
        try:
            self._process.communicate(timeout=_DISMISS_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return


def main() -> None:
    """The guard itself."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    since = time.time()
    lines = [line.strip() for line in sys.stdin]
    if _FAREWELL in lines:
        return
    kill_all([Process(*map(int, line.split())) for line in lines])
    shutil.rmtree(Path(sys.argv[2]), ignore_errors=True)
    shared_memory.remove_unused(shared_memory.semaphores_since(since))
    os._exit(0)
