"""`baton serve` as a user starts it: a child process, its output read for the ready line."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

READY = re.compile(r"ready: (https?://\S+)/v1")


class Served:
    """A running cluster. `lines` grows as it prints."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self.url = ""
        self.start_s = 0.0
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            if found := READY.search(line):
                self.url = found.group(1)
                self._ready.set()
        self._ready.set()

    def wait_ready(self, timeout_s: float) -> None:
        """Raises RuntimeError, with what was printed, if it does not come up."""
        started = time.monotonic()
        self._ready.wait(timeout_s)
        if not self.url:
            raise RuntimeError("baton serve did not get ready:\n" + "\n".join(self.lines))
        self.start_s = time.monotonic() - started

    def stop(self, timeout_s: float = 60) -> int:
        """Ctrl-C; returns the exit status. Raises subprocess.TimeoutExpired."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        status = self.process.wait(timeout_s)
        self._reader.join(5)
        return status


@contextlib.contextmanager
def serving(
    arguments: Sequence[str],
    run_dir: Path,
    environment: Mapping[str, str],
    ready_timeout_s: float = 180,
) -> Iterator[Served]:
    """Start `baton serve` on a free port with a run folder of its own, and stop it at the end.

    `environment` is added to this process's own.
    """
    command = [sys.executable, "-m", "deploy.cli", "serve", "--port", "0"]
    fixed = ["--set", f"cluster.run_dir={run_dir}", "--set", "cluster.ray_address=local"]
    process = subprocess.Popen(
        [*command, *fixed, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        env={**os.environ, **environment},
    )
    served = Served(process)
    try:
        served.wait_ready(ready_timeout_s)
        yield served
    finally:
        _end(served)


def _end(served: Served) -> None:
    try:
        served.stop()
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(served.process.pid, signal.SIGKILL)
        served.process.wait()
        raise
