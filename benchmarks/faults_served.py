"""The cells that hit routers and the controller, on clusters that `baton serve` keeps.

A killed controller, or one that is asked to end, takes its cluster along: each has its own.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from signal import Signals

from baton.tasks import Tasks
from benchmarks.faults_cells import DEADLY, Cell, Fault, Moment, Part
from benchmarks.faults_clients import Case, Clients, Told, cases
from benchmarks.faults_result import Result, say
from benchmarks.faults_streams import stall_since
from benchmarks.leftovers import Mark, mark
from benchmarks.served import Served, serving
from cluster.processes import descendants

OPTIONS = [
    *("--set", "model.dtype=float32"),
    *("--set", "cluster.restart_backoff_s=0.2"),
    *("--set", "admission.shed_at=0"),
]
STREAMS = 6
USERS = 2
LASTS_S = 5.0
BACK_S = 60.0
END_S = 60.0
LEFT_S = 20.0
_COMES_S = 30.0
_HAS_TOKENS = 5
_STATUS = {Fault.KILL: "-9", Fault.TERM: "0"}
_ROUTER = b"ray::RouterProcess"
_RUNS_S, _RESTS_S = 0.01, 0.09


def served_cells(cells: Sequence[Cell], result: Result) -> None:
    """One cluster for those that outlive the fault, one more for each that does not."""
    lasting = [cell for cell in cells if not _ends_cluster(cell)]
    ending = [[cell] for cell in cells if _ends_cluster(cell)]
    for some in filter(None, (lasting, *ending)):
        _cluster(some, result)


def _ends_cluster(cell: Cell) -> bool:
    return cell.part is Part.CONTROLLER and cell.fault in DEADLY


def _cluster(cells: Sequence[Cell], result: Result) -> None:
    say(f"starting a cluster for {len(cells)} cells")
    run_mark, ends = mark(), any(map(_ends_cluster, cells))
    with (
        tempfile.TemporaryDirectory(prefix="baton-faults-") as folder,
        suppress(ProcessLookupError),
        serving(_options(), Path(folder), run_mark.environment) as served,
    ):
        asyncio.run(_Run(served, result).run(cells))
        if ends:
            _wait_for_end(served, cells[0], result)
    _count_left(run_mark, result)


def _options() -> list[str]:
    """A port of its own, so that a router that comes back is found where it was."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return ["--port", str(free.getsockname()[1]), *OPTIONS]


def _wait_for_end(served: Served, cell: Cell, result: Result) -> None:
    try:
        status = str(served.process.wait(END_S))
    except subprocess.TimeoutExpired:
        status = "none"
    if status != _STATUS[cell.fault]:
        result.broken.append(f"{cell}: exit status {status}")
        result.tell(result.broken[-1])


def _count_left(run_mark: Mark, result: Result) -> None:
    left = run_mark.left(LEFT_S)
    result.left += left
    for line in left:
        result.tell(f"left: {line}")


class _Run:
    """One cluster, its clients, one fault after the other."""

    def __init__(self, served: Served, result: Result) -> None:
        self._served = served
        self._result = result
        self._cases = cases(served.url)
        self._shorts = [case.short() for case in self._cases]
        self._clients = Clients(served.url, result)
        self._open = asyncio.Event()
        self._over = False

    async def run(self, cells: Sequence[Cell]) -> None:
        async with Tasks("served") as tasks:
            self._open.set()
            users = [tasks.spawn(self._user(n), f"user {n}") for n in range(USERS)]
            for cell in cells:
                await self._cell(cell, tasks)
            self._over = True
            self._open.set()
            await asyncio.gather(*users)
        await self._clients.aclose()

    async def _user(self, number: int) -> None:
        while not self._over:
            await self._open.wait()
            await self._clients.ask(self._shorts[number % len(self._shorts)], Told())
            number += 1

    async def _cell(self, cell: Cell, tasks: Tasks) -> None:
        before, deadly = self._result.requests, cell.fault in DEADLY
        self._clients.comes_back = not _ends_cluster(cell)
        try:
            streams, asked = await self._come(cell, tasks)
            self._clients.may_break, self._over = deadly, _ends_cluster(cell)
            struck_at = time.monotonic()
            blow = tasks.spawn(_strike(cell.fault, self._victims(cell.part)), f"{cell}")
            await asyncio.sleep(0)
            self._open.set()
            await blow
            await asyncio.gather(*asked)
            await self._until_back(cell)
        except (TimeoutError, LookupError) as error:
            self._result.broken.append(f"{cell}: {type(error).__name__} {error}".rstrip())
        else:
            self._result.carried_out(cell)
            for stream in streams if not deadly else ():
                self._result.stalled(cell.fault, stall_since(stream.times, struck_at))
        self._clients.may_break = _ends_cluster(cell)
        say(f"{cell}: {self._result.requests - before} requests")

    async def _come(self, cell: Cell, tasks: Tasks) -> tuple[list[Told], list[asyncio.Task[None]]]:
        """Nobody asks, or streams are under way."""
        if cell.moment is Moment.IDLE:
            self._open.clear()
            await asyncio.sleep(1)
            return [], []
        streams = [Told() for _ in range(STREAMS)]
        asked = [tasks.spawn(self._ask(n, told), "stream") for n, told in enumerate(streams)]
        async with asyncio.timeout(_COMES_S):
            while not all(s.over or len(s.tokens) >= _HAS_TOKENS for s in streams):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return streams, asked

    async def _ask(self, number: int, told: Told) -> None:
        await self._clients.ask(self._cases[number % len(self._cases)], told)

    async def _until_back(self, cell: Cell) -> None:
        if _ends_cluster(cell):
            return
        case: Case = self._shorts[0]
        async with asyncio.timeout(BACK_S):
            while not await self._clients.serves(case):  # noqa: ASYNC110 - another process's
                await asyncio.sleep(0.2)

    def _victims(self, part: Part) -> list[int]:
        """Raises LookupError when there is none."""
        serve = self._served.process.pid
        if part is Part.CONTROLLER:
            return [serve]
        found = [p.pid for p in descendants(serve) if _title(p.pid).startswith(_ROUTER)]
        if not found:
            raise LookupError("no router process")
        return found


def _title(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def _send(pids: Sequence[int], number: Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


async def _strike(fault: Fault, pids: Sequence[int]) -> None:
    await _BLOWS[fault](pids)


async def _kill(pids: Sequence[int]) -> None:
    _send(pids, Signals.SIGKILL)


async def _term(pids: Sequence[int]) -> None:
    _send(pids, Signals.SIGTERM)


async def _stop(pids: Sequence[int]) -> None:
    _send(pids, Signals.SIGSTOP)
    await asyncio.sleep(LASTS_S)
    _send(pids, Signals.SIGCONT)


async def _slow(pids: Sequence[int]) -> None:
    until = time.monotonic() + LASTS_S
    while time.monotonic() < until:
        _send(pids, Signals.SIGCONT)
        await asyncio.sleep(_RUNS_S)
        _send(pids, Signals.SIGSTOP)
        await asyncio.sleep(_RESTS_S)
    _send(pids, Signals.SIGCONT)


_BLOWS: dict[Fault, Callable[[Sequence[int]], Awaitable[None]]] = {
    Fault.KILL: _kill,
    Fault.TERM: _term,
    Fault.STOP: _stop,
    Fault.SLOW: _slow,
}
