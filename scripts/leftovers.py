"""Find, name and end what a run has left behind: processes and shared memory.

    leftovers.py snapshot FILE        remember the shared memory that exists now
    leftovers.py check FILE MARK      compare with it; look for processes with MARK in CI_RUN_MARK

A process belongs to the run when it was started with the run's mark in its environment, which
children inherit. A file in /dev/shm belongs to it when it is new and no foreign process uses it.
"""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 the folder itself is looked at
GRACE_S = 10.0


def main(arguments: list[str]) -> int:
    """Dispatch; 1 means that something was left."""
    match arguments:
        case ["snapshot", file]:
            Path(file).write_text("\n".join(sorted(shared_files())), encoding="utf-8")
            return 0
        case ["check", file, mark]:
            known = set(Path(file).read_text(encoding="utf-8").splitlines())
            return report(settle(mark), new_files(known, mark))
        case _:
            print(__doc__, file=sys.stderr)
            return 2


def settle(mark: str) -> list[int]:
    """Give processes that are on their way out a moment; return those that stay."""
    deadline = time.monotonic() + GRACE_S
    while (left := marked_processes(mark)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return left


def report(processes: list[int], files: list[str]) -> int:
    """Print what was left, end those processes, and return the exit status."""
    for pid in processes:
        print(f"left behind: process {pid}: {command_line(pid)}")
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for file in files:
        print(f"left behind: {SHARED_MEMORY / file}")
    if not processes and not files:
        print("nothing left behind: no process, no shared memory")
    return 1 if processes or files else 0


def marked_processes(mark: str) -> list[int]:
    """List the living processes of the run, without this one and those it descends from."""
    lineage = ancestors(os.getpid())
    return [pid for pid in all_processes() if pid not in lineage and is_marked(pid, mark)]


def all_processes() -> list[int]:
    """List the ids of all processes."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def is_marked(pid: int, mark: str) -> bool:
    """Tell whether the run started a process; a zombie, whose environment is empty, is not."""
    return f"CI_RUN_MARK={mark}".encode() in read_proc(pid, "environ").split(b"\0")


def ancestors(pid: int) -> set[int]:
    """Return a process and all it descends from."""
    found: set[int] = set()
    while pid > 1 and pid not in found:
        found.add(pid)
        pid = parent(pid)
    return found


def parent(pid: int) -> int:
    """Return the parent's id, 0 when the process is gone."""
    for line in read_proc(pid, "status").splitlines():
        if line.startswith(b"PPid:"):
            return int(line.split()[1])
    return 0


def command_line(pid: int) -> str:
    """Return what was started, shortened."""
    return read_proc(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace").strip()[:200]


def read_proc(pid: int, name: str) -> bytes:
    """Read one file of a process; empty when it is gone or belongs to another user."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def shared_files() -> set[str]:
    """List the files of this user in shared memory."""
    if not SHARED_MEMORY.is_dir():
        return set()
    return {
        str(path.relative_to(SHARED_MEMORY))
        for path in SHARED_MEMORY.rglob("*")
        if path.is_file() and path.owner() == Path("/proc/self").owner()
    }


def new_files(known: set[str], mark: str) -> list[str]:
    """List the new shared memory that no process outside the run uses."""
    new = shared_files() - known
    return sorted(new - foreign_files(mark)) if new else []


def foreign_files(mark: str) -> set[str]:
    """List the shared memory that processes outside the run have mapped or open."""
    used: set[str] = set()
    for pid in all_processes():
        if not is_marked(pid, mark):
            used |= mapped_files(pid) | open_files(pid)
    return used


def mapped_files(pid: int) -> set[str]:
    """List the shared memory a process has mapped."""
    prefix = f"{SHARED_MEMORY}/".encode()
    paths = (line.split(maxsplit=5)[-1] for line in read_proc(pid, "maps").splitlines() if line)
    return {path.removeprefix(prefix).decode() for path in paths if path.startswith(prefix)}


def open_files(pid: int) -> set[str]:
    """List the shared memory a process has open."""
    found = set()
    with contextlib.suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found.add(str(link.readlink()))
    prefix = f"{SHARED_MEMORY}/"
    return {path.removeprefix(prefix) for path in found if path.startswith(prefix)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
