"""What a process keeps in the temporary folder while it starts, named so that it can be swept.

A process that is killed in its start leaves its files. Their names tell whose they were: a process
id, and the namespace in which that means something, because containers may share the folder.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

_OWNED = re.compile(r"baton-[a-z]+-(\d+)-(\d+)(\D.*)?")
_PID_NAMESPACE = Path("/proc/self/ns/pid")


def scratch_path(kind: str, pid: int) -> Path:
    """A name for one file of process `pid`; more may follow after a sign that is no digit."""
    return Path(tempfile.gettempdir()) / f"baton-{kind}-{_namespace()}-{pid}"


def orphaned(alive: Callable[[int], bool]) -> Iterator[Path]:
    """What processes of this user and namespace left of which none is `alive`."""
    for path in Path(tempfile.gettempdir()).glob("baton-*"):
        name = _OWNED.fullmatch(path.name)
        if name and _is_ours(path, int(name[1])) and not alive(int(name[2])):
            yield path


def _is_ours(path: Path, namespace: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return namespace == _namespace() and path.lstat().st_uid == os.getuid()
    return False


def _namespace() -> int:
    return _PID_NAMESPACE.stat().st_ino
