"""What killed processes leave in shared memory, found and removed.

A process that is killed cannot unlink its semaphores. Only files of this user that no living
process has mapped are ever removed.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

_FOLDER = Path("/dev/shm")  # noqa: S108
# Python's own semaphores; its resource tracker would remove them, had it not been killed as well.
_SEMAPHORES = "sem.mp-*"


def used_by(pids: Iterable[int]) -> set[str]:
    """The names of the files in shared memory that these processes have mapped."""
    prefix = f"{_FOLDER}/"
    return {
        path.removeprefix(prefix)
        for pid in pids
        for path in _mapped(pid)
        if path.startswith(prefix)
    }


def semaphores_since(since: float) -> set[str]:
    """The semaphores of this user that are newer than this moment (seconds since 1970)."""
    found: set[str] = set()
    for path in _FOLDER.glob(_SEMAPHORES):
        with contextlib.suppress(OSError):
            about = path.stat()
            if about.st_uid == os.getuid() and about.st_ctime >= since:
                found.add(path.name)
    return found


def remove_unused(names: set[str]) -> list[str]:
    """Removes those of `names` that nobody has mapped; returns which."""
    if not names:
        return []
    everybody = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal())
    removed = sorted(names - used_by(everybody))
    for name in removed:
        with contextlib.suppress(OSError):
            (_FOLDER / name).unlink()
    return removed


def _mapped(pid: int) -> Iterable[str]:
    try:
        lines = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ()
    return {line.split(maxsplit=5)[-1] for line in lines if str(_FOLDER) in line}
