"""Front-end processes are kept running, and none of them outlives the router."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import pytest_asyncio
import zmq

from baton.scratch import scratch_path
from baton.tasks import TaskFault
from deploy import tethered
from router import front_processes
from router.front_processes import Ends, FrontProcesses, Seat
from router.listen import bind
from tests.wire.served import until
from tests.wire.test_tether import runs

ANSWERS = """
import signal, socket, sys
if sys.argv[2] == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
door = socket.socket(fileno=int(sys.argv[1]))
door.setblocking(True)
while True:
    client, _ = door.accept()
    client.sendall(str(__import__("os").getpid()).encode())
    client.close()
"""


def _full(**_options: str) -> str:
    raise OSError(28, "no space left")


def folders_of(pid: int) -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob(scratch_path("front", pid).name + "-*"))


class Attached:
    """Keeps who was attached, and where."""

    def __init__(self) -> None:
        self.now: dict[str, tuple[str, str, str]] = {}
        self.ever: list[str] = []

    def attach(self, name: str, input_address: str, output_address: str, tenant: str) -> None:
        self.now[name] = input_address, output_address, tenant
        self.ever.append(name)

    def detach(self, name: str) -> None:
        self.now.pop(name, None)


class House:
    def __init__(self, how: str = "") -> None:
        self.how = how
        self.attached = Attached()
        self.door = bind("127.0.0.1", 0)
        self.fronts = FrontProcesses(self.launch, self.attached)
        self.started: list[subprocess.Popen[bytes]] = []

    def launch(self, ends: Ends) -> subprocess.Popen[bytes]:
        if self.how == "missing":
            raise FileNotFoundError("no such program")
        command = [sys.executable, "-I", "-S", tethered.__file__, str(os.getpid())]
        program = [sys.executable, "-I", "-S", "-c", ANSWERS, str(ends.fds[0]), self.how]
        self.started.append(subprocess.Popen([*command, *program], pass_fds=ends.fds))
        return self.started[-1]

    async def ask(self) -> int:
        """Which process answers."""
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection(*self.door.getsockname())
            said = await reader.read()
            writer.close()
        return int(said)


@pytest_asyncio.fixture
async def house(request: pytest.FixtureRequest) -> AsyncIterator[House]:
    before = folders_of(os.getpid())
    house = House(getattr(request, "param", ""))
    yield house
    await house.fronts.aclose(1)
    house.door.close()
    assert all(process.poll() is not None for process in house.started)
    assert not house.attached.now
    assert folders_of(os.getpid()) <= before


async def test_each_seat_has_a_process_of_its_own(house: House) -> None:
    house.fronts.start([Seat("f0", house.door), Seat("f1", house.door, "acme")])
    await until(lambda: len(house.attached.now) == 2)
    assert {name: tenant for name, (_, _, tenant) in house.attached.now.items()} == {
        "f0.0": "default",
        "f1.0": "acme",
    }
    assert await house.ask() in house.fronts.pids
    for address in [one for ends in house.attached.now.values() for one in ends[:2]]:
        with socket.socket(socket.AF_UNIX) as engine:
            engine.connect(address.removeprefix("ipc://"))


async def test_one_that_dies_is_followed_and_clients_wait(house: House) -> None:
    house.fronts.start([Seat("f0", house.door)])
    first = await house.ask()
    os.kill(first, signal.SIGKILL)
    await until(lambda: not house.attached.now)
    second = await house.ask()
    assert second not in {0, first}
    assert house.attached.ever == ["f0.0", "f0.1"]
    assert list(house.attached.now) == ["f0.1"]
    assert house.fronts.restarts == 1


async def test_one_that_is_given_up_is_followed(house: House) -> None:
    house.fronts.start([Seat("f0", house.door)])
    first = await house.ask()
    house.fronts.kill("f0.0")
    house.fronts.kill("never heard of")
    await until(lambda: not house.attached.now)
    assert await house.ask() != first


@pytest.mark.parametrize("house", ["missing"], indirect=True)
async def test_what_cannot_be_started_is_tried_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front_processes, "_BACKOFF_S", 0.01)
    house.fronts.start([Seat("f0", house.door)])
    await until(lambda: house.fronts.restarts >= 2)
    assert house.attached.ever == []
    house.how = ""
    await house.ask()


@pytest.mark.parametrize("error", [zmq.ZMQError(24), OSError(24, "no descriptors")])
async def test_what_cannot_be_connected_is_ended_and_tried_again(
    house: House, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(front_processes, "_BACKOFF_S", 0.01)
    attach = house.attached.attach

    def attach_later(name: str, *where: str) -> None:
        if len(house.started) < 3:
            raise error
        attach(name, *where)

    monkeypatch.setattr(house.attached, "attach", attach_later)
    house.fronts.start([Seat("f0", house.door)])
    await until(lambda: house.attached.ever == ["f0.2"])
    assert [one.poll() for one in house.started] == [-signal.SIGKILL, -signal.SIGKILL, None]
    assert house.fronts.pids == (house.started[2].pid,)


async def test_without_room_for_its_sockets_it_is_tried_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front_processes, "_BACKOFF_S", 0.01)
    monkeypatch.setattr(front_processes, "mkdtemp", _full)
    house.fronts.start([Seat("f0", house.door)])
    await until(lambda: house.fronts.restarts >= 2)
    monkeypatch.undo()
    await house.ask()


async def test_a_seat_that_is_given_up_is_told_of(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults: list[TaskFault] = []
    house.fronts = FrontProcesses(house.launch, house.attached, faults.append)
    monkeypatch.setattr(house.attached, "attach", None)
    house.fronts.start([Seat("f0", house.door)])
    await until(lambda: len(faults) == 1)
    assert isinstance(faults[0].error, TypeError)


async def test_they_are_asked_to_end(house: House) -> None:
    house.fronts.start([Seat("f0", house.door)])
    await house.ask()
    await house.fronts.aclose(5)
    assert house.started[0].returncode == -signal.SIGTERM


@pytest.mark.parametrize("house", ["deaf"], indirect=True)
async def test_one_that_will_not_end_is_killed(house: House) -> None:
    house.fronts.start([Seat("f0", house.door)])
    await house.ask()
    await house.fronts.aclose(0.1)
    assert house.started[0].returncode == -signal.SIGKILL


def _own(report: Connection) -> None:
    """Stands for a router: starts a front end on a thread that stays."""

    async def run() -> None:
        house = House("deaf")
        house.fronts.start([Seat("f0", house.door)])
        report.send(await house.ask())
        await asyncio.sleep(60)

    asyncio.run(run())


async def test_none_outlives_a_router_that_is_killed() -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    router = context.Process(target=_own, args=(theirs,))
    router.start()
    assert await asyncio.to_thread(ours.poll, 30)
    front = ours.recv()
    assert runs(front)
    router.kill()
    router.join()
    await until(lambda: not runs(front))
    for folder in folders_of(router.pid):
        shutil.rmtree(folder)


def test_a_parent_that_is_gone_already_is_not_waited_for() -> None:
    command = [sys.executable, "-I", "-S", tethered.__file__, "1", sys.executable, "-c", "print(7)"]
    done = subprocess.run(command, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (1, b"")
