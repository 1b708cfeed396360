"""Brings requests to the moment of a cell, and says whom the fault is to hit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from baton.messages import Role
from baton.tasks import Tasks
from benchmarks.faults_cells import Cell, Fault, Moment, Part
from benchmarks.faults_load import Asker, Load, Sorted
from benchmarks.faults_streams import Stream
from benchmarks.faults_workers import Crew, Manned
from benchmarks.soak_faults import UNSPOILT, Spoil
from benchmarks.soak_trials import is_stopped

POLL_S = 0.003
COMES_S = 20.0
"""A moment that does not come within this time makes the cell a broken one."""
LONG_REQUESTS = 3
STREAMS = 12
STREAM_HAS_TOKENS = 5
_STOP_AT_WRITE = 2
_DELAYED = Spoil(delay=90)
_DROPPED = Spoil(drop=100)


@dataclass
class Scene:
    """A moment that has come: the victim, and the requests that were sent for it."""

    victim: Manned
    streams: list[Stream] = field(default_factory=list)


class Moments:
    """Sends the requests that a cell needs."""

    def __init__(self, crew: Crew, asker: Asker, load: Load, known: Sorted, tasks: Tasks) -> None:
        self._crew = crew
        self._asker = asker
        self._load = load
        self._known = known
        self._tasks = tasks

    async def come(self, cell: Cell) -> Scene:
        """Wait until requests are where the cell wants them. Raises TimeoutError."""
        async with asyncio.timeout(COMES_S):
            if cell.part is Part.TRANSPORT:
                return self._spoilt(_DELAYED if cell.fault is Fault.SLOW else _DROPPED)
            role = Role(cell.part.value)
            match cell.moment:
                case Moment.IDLE:
                    return await self._idle(role)
                case Moment.MID_PREFILL:
                    return await self._mid_prefill(role)
                case Moment.MID_TRANSFER:
                    return await self._mid_transfer(role)
                case Moment.MID_DECODE:
                    return await self._mid_decode(role)

    async def _idle(self, role: Role) -> Scene:
        self._load.pause()
        await _until(lambda: self._asker.heart.inflight == 0)
        return Scene(self._crew.of(role)[0])

    async def _mid_prefill(self, role: Role) -> Scene:
        streams = self._long(LONG_REQUESTS)
        (prefill, *_) = self._crew.of(Role.PREFILL)
        await _until_held(prefill, streams, ".p")
        return Scene(self._victim(role, streams[0]), streams)

    async def _mid_transfer(self, role: Role) -> Scene:
        if role is Role.PREFILL:
            return await self._mid_write()
        streams = self._long(1)
        await _until(lambda: self._plan(streams[0]) is not None)
        decode = self._victim(role, streams[0])
        await _until_held(decode, streams, ".d")
        return Scene(decode, streams)

    async def _mid_write(self) -> Scene:
        """Prefill's engine stops by itself once it has posted a write: no poll is that exact."""
        streams = self._long(LONG_REQUESTS - 1)
        streams += self._long(1, Spoil(stop_at=_STOP_AT_WRITE))
        (prefill, *_) = self._crew.of(Role.PREFILL)
        await _until(lambda: is_stopped(prefill.engine_pid))
        return Scene(prefill, streams)

    async def _mid_decode(self, role: Role) -> Scene:
        known = self._known.stream
        asked = [known[n % len(known)] for n in range(STREAMS)]
        streams = [self._asker.ask(self._tasks, each) for each in asked]
        await _until(partial(_all_stream, streams))
        if role is Role.PREFILL:
            return Scene(self._crew.of(role)[0], streams)
        busiest = max(self._crew.of(role), key=lambda w: len(self.on(w, streams)))
        return Scene(busiest, streams)

    def _spoilt(self, spoil: Spoil) -> Scene:
        streams = self._long(2 * LONG_REQUESTS, spoil)
        return Scene(self._crew.of(Role.PREFILL)[0], streams)

    def _long(self, number: int, spoil: Spoil = UNSPOILT) -> list[Stream]:
        known = self._known.long
        asked = [known[n % len(known)] for n in range(number)]
        return [self._asker.ask(self._tasks, each, spoil) for each in asked]

    def _victim(self, role: Role, stream: Stream) -> Manned:
        plan = self._plan(stream)
        assert plan is not None, f"{stream.request_id} has not been sent"
        return self._crew.named(plan[role.value] or plan["decode"])

    def _plan(self, stream: Stream) -> dict[str, Any] | None:
        plans = self._asker.heart.explain(stream.request_id)
        return plans[-1] if plans else None

    def on(self, worker: Manned, streams: Sequence[Stream]) -> list[Stream]:
        """Those of the streams whose tokens come from this worker now."""
        plans = {s.request_id: self._plan(s) for s in streams if s.streams}
        mine = {r for r, plan in plans.items() if plan and plan["decode"] == worker.name}
        return [stream for stream in streams if stream.request_id in mine]


def _all_stream(streams: Sequence[Stream]) -> bool:
    started = [len(s.tokens) >= STREAM_HAS_TOKENS for s in streams]
    # One that failed or ended early must not hold up the others.
    return all(has or s.over.is_set() for has, s in zip(started, streams, strict=True))


async def _until_held(worker: Manned, streams: Sequence[Stream], leg: str) -> None:
    """Until the worker's engine holds blocks for such a leg of one of them."""
    names = {f"{stream.request_id}.0{leg}" for stream in streams}
    held = (await asyncio.to_thread(worker.look)).held
    while names.isdisjoint(held):
        await asyncio.sleep(POLL_S)
        held = (await asyncio.to_thread(worker.look)).held


async def _until(come: Callable[[], bool]) -> None:
    while not come():  # noqa: ASYNC110 - it is another process's
        await asyncio.sleep(POLL_S)
