"""Processes of this machine, read from /proc: who descends from whom, who still lives.

A process is named by its id and its start time, so that a reused id is never mistaken for it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

_KILL_WAIT_S = 5.0
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PID_NAMESPACE = Path("/proc/self/ns/pid")


@dataclass(frozen=True, slots=True)
class Process:
    """One process, for as long as the machine runs."""

    pid: int
    started: int
    """Clock ticks after the machine's start."""

    def alive(self) -> bool:
        """Whether it still runs; a zombie does not."""
        return find(self.pid) == self


def this_host() -> str:
    """Where this process's ids mean something: one start of one machine, one namespace."""
    return f"{_BOOT_ID.read_text().strip()} {_PID_NAMESPACE.readlink()}"


def end_for_certain(host: str, processes: Sequence[Process]) -> bool:
    """Kills them if this is their host; whether none of them runs any more, as far as is known."""
    if host != this_host():
        return False
    kill_all(processes)
    return not any(process.alive() for process in processes)


def find(pid: int) -> Process | None:
    """The process with this id, None if there is none or it is a zombie."""
    fields = _stat(pid)
    return None if fields is None or fields[0] in "ZX" else Process(pid, int(fields[19]))


def is_alive(pid: int) -> bool:
    """Whether a process with this id runs."""
    return find(pid) is not None


def descendants(pid: int) -> list[Process]:
    """Every living process that descends from `pid`, without itself."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (fields := _stat(int(entry.name))) is not None:
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found: list[int] = []
    waiting = list(children.get(pid, ()))
    while waiting:
        child = waiting.pop()
        found.append(child)
        waiting += children.get(child, ())
    return [process for child in found if (process := find(child)) is not None]


def kill_all(processes: Iterable[Process]) -> list[Process]:
    """Kills those that still live and waits until they are gone; returns whom it had to kill."""
    killed = [process for process in processes if process.alive()]
    for process in killed:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process.pid, signal.SIGKILL)
    deadline = time.monotonic() + _KILL_WAIT_S
    while any(process.alive() for process in killed) and time.monotonic() < deadline:
        time.sleep(0.02)
    return killed


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state on; the name before them may hold anything."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()
