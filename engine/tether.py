"""Ties a process to the one that started it, so that no kill -9 leaves an engine behind."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress


def tether_to_parent(cut: Callable[[], None] | None = None) -> bool:
    """Die with everything this process started once its parent is gone.

    Works in processes started by `multiprocessing`: the parent's sentinel is a pipe that the
    kernel closes however the parent ends. A parent-death signal would not do: it fires when the
    starting *thread* ends. Makes this process the leader of its own session, so that a terminal's
    Ctrl-C reaches only the owner. `cut` replaces the kill in tests. Returns whether there is a
    parent to watch.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return False
    with suppress(PermissionError):  # already a group leader
        os.setsid()
    sentinel = parent.sentinel
    threading.Thread(
        target=_watch, args=(sentinel, cut or _kill_group), name="tether", daemon=True
    ).start()
    return True


def _watch(sentinel: int, cut: Callable[[], None]) -> None:
    multiprocessing.connection.wait([sentinel])
    cut()


def _kill_group() -> None:
    os.killpg(os.getpgid(0), signal.SIGKILL)
