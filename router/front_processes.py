"""Front-end processes: started by the router, watched, started anew, and ended with it.

Each gets a listening socket for clients, which the router keeps open too: while a front end starts
anew, clients wait in it instead of being refused. Knows no vLLM: what is started is given, and
what connects it to the heart.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Protocol

import zmq

from baton.scratch import scratch_path
from baton.settings.admission import DEFAULT_TENANT
from baton.tasks import OnFault, Tasks

_log = logging.getLogger(__name__)
_BACKOFF_S, _BACKOFF_MAX_S = 0.2, 10.0
_STEADY_S = 10.0
"""One that has run for so long starts anew at once."""


@dataclass(frozen=True, slots=True)
class Seat:
    """A place for one front-end process after the other. `name` is the router's only one."""

    name: str
    door: socket.socket
    """Where clients connect. Several seats may share one."""
    tenant: str = DEFAULT_TENANT


@dataclass(frozen=True, slots=True)
class Ends:
    """What a process inherits: the clients' socket, and those that engines connect to."""

    door: socket.socket
    input: socket.socket
    output: socket.socket

    @property
    def fds(self) -> tuple[int, int, int]:
        """Their numbers, which stay the same in the process."""
        return self.door.fileno(), self.input.fileno(), self.output.fileno()


Launch = Callable[[Ends], "subprocess.Popen[bytes]"]
"""Starts a front end that dies with this process. Raises OSError."""


class Attach(Protocol):
    """How a front end is connected to the heart, and let go."""

    def attach(self, name: str, input_address: str, output_address: str, tenant: str) -> None:
        """Connects. `name` is used once."""

    def detach(self, name: str) -> None:
        """Aborts its requests. May be called again."""


class FrontProcesses:
    """Keeps each seat taken. Belongs to one event loop. `on_fault` hears of a seat given up."""

    def __init__(self, launch: Launch, attach: Attach, on_fault: OnFault | None = None) -> None:
        self._launch = launch
        self._attach = attach
        self._on_fault = on_fault
        self._tasks = Tasks("front ends")
        self._seats: tuple[Seat, ...] = ()
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._at: dict[str, int] = {}
        self._restarts = 0

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes that run."""
        return tuple(process.pid for process in self._running.values())

    @property
    def restarts(self) -> int:
        """How often a process was started in the place of one that ended."""
        return self._restarts

    def accepting(self) -> bool:
        """Whether a process of each seat takes connections at the seat's door."""
        return all(_accepts(self._at.get(seat.name), seat.door) for seat in self._seats)

    def start(self, seats: Sequence[Seat]) -> None:
        """Fills the seats, and keeps them filled until `aclose`."""
        self._seats = tuple(seats)
        for seat in seats:
            self._tasks.spawn(self._keep(seat), seat.name, eternal=True, on_fault=self._on_fault)

    def kill(self, name: str) -> None:
        """Ends the process that was attached under this name; another one follows."""
        process = self._running.get(name)
        if process is not None:
            process.kill()

    async def aclose(self, timeout_s: float) -> None:
        """Asks all processes to end, and kills those that have not within `timeout_s` seconds."""
        processes = dict(self._running)
        await self._tasks.aclose()
        for process in processes.values():
            process.terminate()
        give_up = time.monotonic() + timeout_s
        for name, process in processes.items():
            if not await _ended(process, max(give_up - time.monotonic(), 0.0)):
                process.kill()
                await _ended(process, None)
            # Last: until then its clients are answered.
            self._attach.detach(name)
        self._running.clear()

    async def _keep(self, seat: Seat) -> None:
        backoff_s, number = _BACKOFF_S, 0
        while True:
            began = time.monotonic()
            why = await self._once(seat, f"{seat.name}.{number}")
            number += 1
            if time.monotonic() - began >= _STEADY_S:
                backoff_s = _BACKOFF_S
            _log.warning("a front end ended", extra={"front_end": seat.name, "cause": why})
            await asyncio.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, _BACKOFF_MAX_S)
            self._restarts += 1

    async def _once(self, seat: Seat, name: str) -> str:
        """One process from its start to its end, and how it ended."""
        with contextlib.ExitStack() as stack:
            try:
                process = self._started(seat, folder := _folder(stack))
            except OSError as error:
                return f"it cannot be started: {error}"
            self._running[name], self._at[seat.name] = process, process.pid
            why = await self._kept(seat, name, folder, process)
            self._attach.detach(name)
            del self._running[name], self._at[seat.name]
        return why

    async def _kept(
        self, seat: Seat, name: str, folder: Path, process: subprocess.Popen[bytes]
    ) -> str:
        """Connects a process and waits for its end; one that cannot be connected is ended."""
        try:
            self._attach.attach(name, _address(folder, "in"), _address(folder, "out"), seat.tenant)
            await _ended(process, None)
        except (OSError, zmq.ZMQError) as error:
            process.kill()
            # By a thread: watching it may be what failed.
            await asyncio.to_thread(process.wait)
            return f"it cannot be connected: {error}"
        return f"status {process.returncode}"

    def _started(self, seat: Seat, folder: Path) -> subprocess.Popen[bytes]:
        with _listener(folder / "in") as input_, _listener(folder / "out") as output:
            return self._launch(Ends(seat.door, input_, output))


def _folder(stack: contextlib.ExitStack) -> Path:
    folder = Path(mkdtemp(prefix=f"{scratch_path('front', os.getpid()).name}-"))
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _listener(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen()
    return listener


def _address(folder: Path, name: str) -> str:
    return f"ipc://{folder / name}"


async def _ended(process: subprocess.Popen[bytes], timeout_s: float | None) -> bool:
    """Waits for a process's end, at most so long, and for nothing else; whether it has ended."""
    if process.poll() is not None:
        return True
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    fd = os.pidfd_open(process.pid)
    loop.add_reader(fd, ended.set)
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await ended.wait()
    finally:
        loop.remove_reader(fd)
        os.close(fd)
    return process.poll() is not None


def _accepts(pid: int | None, door: socket.socket) -> bool:
    """Whether this process, and not another one that shares the socket, waits for connections.

    What it waits for is told by its epolls, a socket by the number that it has in every process.
    """
    if pid is None:
        return False
    inode = f"ino:{os.fstat(door.fileno()).st_ino:x}"
    try:
        return any(_waits(one, inode) for one in Path(f"/proc/{pid}/fdinfo").iterdir())
    except OSError:
        return False  # It has ended.


def _waits(fdinfo: Path, inode: str) -> bool:
    with contextlib.suppress(FileNotFoundError):  # Closed meanwhile.
        text = fdinfo.read_text()
        return any(line.startswith("tfd:") and inode in line.split() for line in text.splitlines())
    return False
