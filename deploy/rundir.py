"""The run folder: where a running cluster says that it runs, and keeps what ends with it.

It belongs to one user and nobody else may look inside. Each cluster has one state file in it.
"""

from __future__ import annotations

import json
import os
import stat
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from baton.errors import StartupError, StartupFault
from cluster.processes import Process, find


@dataclass(frozen=True, slots=True)
class RunState:
    """What others need to find a running `baton serve`."""

    cluster: str
    pid: int
    pid_started: int
    """Start time of the process in the kernel's clock: tells it from a later one with its id."""
    started_at: float
    """Seconds since 1970, for people."""
    ray_address: str
    ray_owned: bool
    phase: str = "starting"
    url: str | None = None
    model: str | None = None

    def running(self) -> bool:
        """Whether the process that wrote this still lives."""
        return Process(self.pid, self.pid_started).alive()


class RunDir:
    """The folder of one user; `prepare` makes it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def prepare(self) -> None:
        """Makes the folder, for this user only. Raises StartupError if it is somebody else's."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = self.path.lstat()
        except OSError as error:
            raise _unusable(self.path, error.strerror or str(error)) from error
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise _unusable(self.path, "it is not a folder of this user")
        self.path.chmod(0o700)

    def logs(self, cluster: str) -> Path:
        """Where the logs of a cluster's workers are kept when something went wrong."""
        return self.path / "logs" / cluster

    def orders(self, cluster: str) -> Path:
        """Where a running cluster is told what to do."""
        return self.path / f"{cluster}.orders"

    def read(self, cluster: str) -> RunState | None:
        """The state of a cluster, dead or alive; None if there is none that can be read."""
        try:
            found = json.loads(self._file(cluster).read_text(encoding="utf-8"))
            return RunState(**found)
        except (OSError, ValueError, TypeError):
            return None

    def write(self, state: RunState) -> None:
        """Puts the state in place in one step: no reader ever sees half of it."""
        target = self._file(state.cluster)
        draft = target.with_suffix(f".{os.getpid()}.tmp")
        draft.write_text(json.dumps(asdict(state), indent=2) + "\n", encoding="utf-8")
        draft.replace(target)

    def remove(self, cluster: str) -> None:
        """Forgets a cluster."""
        self._file(cluster).unlink(missing_ok=True)

    def _file(self, cluster: str) -> Path:
        return self.path / f"{cluster}.json"


class Record:
    """The state file of this process, kept up to date while it serves."""

    def __init__(self, run_dir: RunDir, state: RunState) -> None:
        self._run_dir = run_dir
        self._state = state
        run_dir.write(state)

    def update(self, phase: str, url: str | None) -> None:
        """Writes what has changed. Raises OSError; the next call tries again."""
        changed = replace(self._state, phase=phase, url=url)
        if changed != self._state:
            self._run_dir.write(changed)
            self._state = changed

    def close(self) -> None:
        """Removes the file."""
        self._run_dir.remove(self._state.cluster)


def run_dir(configured: str | None) -> RunDir:
    """The folder in effect: the configured one, or this user's in the temporary folder."""
    if configured is not None:
        return RunDir(Path(configured).expanduser().absolute())
    return RunDir(Path(tempfile.gettempdir()) / f"baton-{os.getuid()}")


def this_process() -> Process:
    """The process that runs this."""
    process = find(os.getpid())
    assert process is not None
    return process


def _unusable(path: Path, why: str) -> StartupError:
    return StartupError(
        StartupFault.SETTINGS_INVALID,
        f"the run folder {path} cannot be used: {why}",
        hint="Set cluster.run_dir to a folder of your own.",
    )
