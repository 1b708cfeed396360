"""Proof that a process is dead, for peers on the same host.

A process is named by host, pid and start time, so that a reused pid is never taken for it. Only an
answer from this very host and pid namespace is proof; about others nothing is said.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PID_NAMESPACE = Path("/proc/self/ns/pid")
_START_TIME_FIELD = 19


@dataclass(frozen=True, slots=True)
class ProcessName:
    """One process, for as long as its host runs."""

    host: str
    """The host's boot id and pid namespace."""
    pid: int
    started: int
    """Clock ticks from the host's start to the process's."""


def this_host() -> str:
    return f"{_BOOT_ID.read_text().strip()} {_PID_NAMESPACE.readlink()}"


def this_process() -> ProcessName:
    pid = os.getpid()
    fields = _stat(pid)
    return ProcessName(this_host(), pid, int(fields[_START_TIME_FIELD]) if fields else 0)


def is_dead(process: ProcessName, here: str) -> bool:
    """Whether it is certain that the process has ended; `here` is `this_host()`."""
    if process.host != here:
        return False
    fields = _stat(process.pid)
    # A zombie runs no instruction and has no memory any more.
    return fields is None or fields[0] in "ZX" or int(fields[_START_TIME_FIELD]) != process.started


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state on; the name before them may hold anything."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()
