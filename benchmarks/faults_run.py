"""The cells that hit workers and their transport: engines, load, one fault after the other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path

from baton.clock import MonotonicClock
from baton.ids import RouterId
from baton.messages import Role
from baton.settings import Settings
from baton.tasks import Tasks
from benchmarks.faults_blows import strike
from benchmarks.faults_cells import DEADLY, Cell, Fault, Moment, Part
from benchmarks.faults_front import Front
from benchmarks.faults_load import REQUEST_TIMEOUT_S, Asker, Load, all_questions, sorted_out
from benchmarks.faults_moments import Moments, Scene
from benchmarks.faults_result import Result, say
from benchmarks.faults_workers import Crew, Manned, Whom, settings
from benchmarks.legs import WorkerLink
from benchmarks.soak_questions import Known, known, near_ties
from router.heart import Heart
from router.link import connector
from router.metrics import RouterMetrics
from router.wire import Identity

USERS = 3
_CELL_S = 60.0


async def worker_cells(cells: Sequence[Cell], result: Result, folder: Path) -> None:
    """Start, all cells, stop."""
    say("starting one prefill and two decode engines")
    async with Tasks("faults") as tasks:
        crew = Crew(folder, REQUEST_TIMEOUT_S, 1, tasks)
        began = time.monotonic()
        try:
            await crew.start()
            result.start_s = time.monotonic() - began
            await _Run(crew, result, tasks).run(cells)
        finally:
            await tasks.aclose()
            result.left += await crew.end()


class _Run:
    """One set of engines, and the router before them."""

    def __init__(self, crew: Crew, result: Result, tasks: Tasks) -> None:
        self._crew = crew
        self._result = result
        self._tasks = tasks
        info = crew.all[0].info
        assert info is not None
        self._front = Front()
        self._numbers = count()
        self._info = info
        self._asker = Asker(self._new_heart(), self._front, crew, result)

    def _new_heart(self) -> Heart:
        identity = Identity(RouterId(f"router-{next(self._numbers)}"), self._info.config_digest)
        loaded = Settings.model_validate(settings(REQUEST_TIMEOUT_S))
        heart = Heart(identity, loaded, MonotonicClock(), RouterMetrics(), connector(identity))
        heart.attach(self._front)
        return heart

    async def run(self, cells: Sequence[Cell]) -> None:
        found = sorted_out(await _answers(self._crew.of(Role.DECODE), self._tasks))
        load = Load(self._asker, found.short, USERS, self._tasks)
        moments = Moments(self._crew, self._asker, load, found, self._tasks)
        for cell in cells:
            await self._cell(cell, moments, load)
        await load.end()
        await self._until_nobody_is_in()
        await self._count_leaks()
        await self._asker.heart.aclose()

    async def _fresh_router(self, load: Load) -> None:
        """One that has seen no loss: workers that are lost often are left alone for ever longer,
        and one cell is not to spoil the next."""
        load.pause()
        await self._until_nobody_is_in()
        await self._asker.heart.aclose()
        heart = self._asker.heart = self._new_heart()
        heart.start()
        self._crew.follow(heart.set_view)
        async with asyncio.timeout(10):
            while not all(row["up"] for row in heart.status()["workers"]):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        load.resume()

    async def _cell(self, cell: Cell, moments: Moments, load: Load) -> None:
        before = self._result.requests
        try:
            await self._crew.until_up(_needed(cell, self._crew))
            await self._fresh_router(load)
            async with asyncio.timeout(_CELL_S):
                await self._strike(cell, moments, load)
        except (TimeoutError, AssertionError) as error:
            self._result.broken.append(f"{cell}: {type(error).__name__} {error}".rstrip())
            self._result.tell(f"broken: {self._result.broken[-1]}")
        else:
            self._result.carried_out(cell)
        load.resume()
        requests = self._result.requests - before
        worst_s = max(self._result.pauses.get(cell.fault, []), default=0.0)
        say(f"{cell}: {requests} requests; longest pause by such a fault {worst_s:.2f} s")

    async def _strike(self, cell: Cell, moments: Moments, load: Load) -> None:
        scene = await moments.come(cell)
        if cell.part is Part.TRANSPORT:
            await _ended(scene)
            return
        everybody = list(self._front.streams.values())
        theirs = moments.on(scene.victim, everybody)
        start, struck_at = scene.victim.starts, time.monotonic()
        blow = self._tasks.spawn(strike(cell.fault, scene.victim, _whom(cell)), f"{cell}")
        await asyncio.sleep(0)
        load.resume()
        await blow
        await _ended(scene)
        if cell.fault in DEADLY:
            await _buried(scene.victim, start)
        for stream in theirs:
            await stream.over.wait()
            pause = stream.pause_since(struck_at)
            if pause is not None:
                self._result.paused(cell.fault, pause)
            else:
                self._result.stalled(cell.fault, stream.stall_since(struck_at))

    async def _until_nobody_is_in(self) -> None:
        async with asyncio.timeout(REQUEST_TIMEOUT_S + 5):
            await self._asker.heart.idle()

    async def _count_leaks(self) -> None:
        leaks = await self._crew.leaked()
        self._result.leaked_blocks += sum(leaks.values())
        if leaks:
            self._result.tell(f"leaked blocks: {leaks}")


async def _answers(decodes: Sequence[Manned], tasks: Tasks) -> list[Known]:
    """What is right: asked of the decode workers alone, before anything goes wrong."""
    asked, links = all_questions(), []
    for worker in decodes:
        assert worker.info is not None
        links.append(WorkerLink(worker.info, tasks))
        await links[-1].open()
    parts = await asyncio.gather(
        *(known(link, asked[n :: len(links)]) for n, link in enumerate(links))
    )
    found = {n: each for k, part in enumerate(parts) for n, each in _numbered(part, k, len(links))}
    for link in links:
        await link.close()
    in_order = [found[n] for n in range(len(asked))]
    say(f"{len(in_order)} answers known, {near_ties(in_order)} near ties")
    return in_order


def _numbered(part: Sequence[Known], first: int, step: int) -> list[tuple[int, Known]]:
    return [(first + step * n, each) for n, each in enumerate(part)]


async def _ended(scene: Scene) -> None:
    for stream in scene.streams:
        await stream.over.wait()


async def _buried(victim: Manned, start: int) -> None:
    """Else whoever looks next may take it for alive."""
    while victim.starts == start and victim.info is not None:  # noqa: ASYNC110 - a process
        await asyncio.sleep(0.02)


def _needed(cell: Cell, crew: Crew) -> list[Manned]:
    """Who has to be up: the victim's pool, and prefill where a prompt has to be handed over."""
    if cell.part is Part.DECODE and cell.moment in (Moment.IDLE, Moment.MID_DECODE):
        return crew.of(Role.DECODE)
    if cell.part is Part.PREFILL and cell.moment in (Moment.IDLE, Moment.MID_DECODE):
        return crew.of(Role.PREFILL)
    return crew.all


def _whom(cell: Cell) -> Whom:
    """Stops and slowness befall a whole worker; of the deaths half are its engine's alone."""
    if cell.fault in (Fault.STOP, Fault.SLOW):
        return Whom.BOTH
    return Whom.OWNER if cell.moment in (Moment.IDLE, Moment.MID_TRANSFER) else Whom.ENGINE
