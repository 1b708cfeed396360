"""A process tied to its parent dies with it, and so does what it started."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

from engine.tether import tether_to_parent

DEATH_S = 2.0


def engine(report: Connection, how: str) -> None:
    """Stands for an engine process: tethered, with a child of its own."""
    tethered = tether_to_parent()
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    report.send((tethered, os.getpid(), child.pid, os.getsid(0)))
    if how == "ignoring":
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
    time.sleep(60)


def owner(report: Connection, how: str) -> None:
    """Stands for the process that owns an engine."""
    context = multiprocessing.get_context("spawn")
    context.Process(target=engine, args=(report, how)).start()
    report.close()
    time.sleep(60)


def runs(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def killed_owner(how: str) -> tuple[bool, int, int, int]:
    """Start both, kill the owner with SIGKILL, and give what the engine said."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=owner, args=(theirs, how))
    process.start()
    theirs.close()
    assert ours.poll(30)
    said = ours.recv()
    assert runs(said[1])
    assert runs(said[2])
    process.kill()
    process.join()
    return said


def all_gone(pids: list[int]) -> bool:
    give_up_at = time.monotonic() + DEATH_S
    while any(map(runs, pids)) and time.monotonic() < give_up_at:
        time.sleep(0.01)
    return not any(map(runs, pids))


def test_an_engine_and_its_children_die_with_a_killed_owner() -> None:
    tethered, engine_pid, child_pid, session = killed_owner("plain")
    assert tethered
    assert session == engine_pid
    assert all_gone([engine_pid, child_pid])


def test_signals_that_it_ignores_do_not_save_it() -> None:
    _, engine_pid, child_pid, _ = killed_owner("ignoring")
    assert all_gone([engine_pid, child_pid])


def test_a_process_without_such_a_parent_has_nothing_to_watch() -> None:
    assert multiprocessing.parent_process() is None
    assert tether_to_parent(lambda: None) is False
