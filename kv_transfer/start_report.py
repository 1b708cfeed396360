"""How the engine process tells its owner what it does while it starts, and why it failed.

A file, because the process may end at any moment, and its path a function of the owner's pid,
because a path inside vLLM's configuration would change the key of its compilation cache.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from baton.errors import StartupError, StartupFault
from baton.scratch import scratch_path

_MEMORY_SIGNS = ("memory", "kv cache", "kv_cache", "out of memory", "cannot allocate")


def report_path(owner_pid: int) -> Path:
    """Where the engine process started by `owner_pid` writes."""
    return scratch_path("start", owner_pid).with_suffix(".jsonl")


def open_report(path: Path) -> None:
    """The owner's first act: a new file that no other user can read or has prepared."""
    path.unlink(missing_ok=True)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


@dataclass(frozen=True, slots=True)
class StartState:
    """The latest word: what the engine is doing, and its error once it has failed."""

    phase: str = "starting the engine process"
    error: str | None = None
    endpoint: bytes = b""
    """What the KV connector published for its peers."""


class StartReport:
    """The engine's end: appends JSON lines."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def phase(self, text: str) -> None:
        self._write({"phase": text})

    def endpoint(self, data: bytes) -> None:
        self._write({"endpoint": base64.b64encode(data).decode()})

    def failed(self, error: BaseException) -> None:
        self._write({"error": f"{type(error).__name__}: {error}"})

    def _write(self, line: dict[str, str]) -> None:
        # Only into the file that the owner made: once it has read and removed it, nobody listens.
        with contextlib.suppress(OSError):
            file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
            try:
                os.write(file, (json.dumps(line) + "\n").encode())
            finally:
                os.close(file)


def read_report(path: Path) -> StartState:
    """The owner's end. A missing file or a half-written line is no news."""
    state = StartState()
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return state
    for line in lines:
        try:
            news = json.loads(line)
        except ValueError:
            continue
        if not isinstance(news, dict):
            continue
        endpoint = base64.b64decode(news["endpoint"]) if "endpoint" in news else state.endpoint
        state = StartState(news.get("phase", state.phase), news.get("error", state.error), endpoint)
    return state


def startup_error(state: StartState) -> StartupError:
    """The typed error for an engine process that failed while starting."""
    if state.error is None:
        return StartupError(
            StartupFault.ENGINE_CRASHED, f"the engine process ended while {state.phase}"
        )
    text = state.error.lower()
    fault = (
        StartupFault.MEMORY_TOO_SMALL
        if any(sign in text for sign in _MEMORY_SIGNS)
        else StartupFault.ENGINE_CRASHED
    )
    return StartupError(fault, f"the engine failed while {state.phase}: {state.error}")
