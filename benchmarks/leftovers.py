"""Proof that a run left nothing: no process that it started, no shared memory, no file."""

from __future__ import annotations

import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - the folder itself is looked at


@dataclass(frozen=True, slots=True)
class Mark:
    """What a run's processes carry in their environment, and what was there before."""

    value: str
    files: frozenset[Path]

    @property
    def environment(self) -> dict[str, str]:
        """For the first process; the others inherit it."""
        # Ray and vLLM rename their processes; SPT_NOENV keeps the environment readable.
        return {"RUN_MARK": self.value, "SPT_NOENV": "1"}

    def left(self, patience_s: float = 5.0) -> list[str]:
        """What is still there after at most `patience_s`, as lines for people."""
        give_up = time.monotonic() + patience_s
        while (found := self._processes() + self._files()) and time.monotonic() < give_up:
            time.sleep(0.2)
        return found

    def _processes(self) -> list[str]:
        needle = f"RUN_MARK={self.value}".encode()
        return [
            f"process {folder.name}: {_command(folder)}"
            for folder in Path("/proc").glob("[0-9]*")
            if needle in _read(folder / "environ").split(b"\0")
        ]

    def _files(self) -> list[str]:
        return [f"file {path}" for path in sorted(_files() - self.files)]


def mark() -> Mark:
    """A new mark, taken before anything starts."""
    return Mark(uuid.uuid4().hex, _files())


def _files() -> frozenset[Path]:
    """Shared memory, and what Baton's processes keep in the temporary folder for a while."""
    scratch = Path(tempfile.gettempdir()).glob("baton-[a-z]*-*")
    return frozenset([*_SHARED_MEMORY.iterdir(), *scratch])


def _command(folder: Path) -> str:
    return _read(folder / "cmdline").replace(b"\0", b" ").decode(errors="replace")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
