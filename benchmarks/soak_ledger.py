"""How long ended requests keep blocks: their legs are watched until the pool has them back."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from dataclasses import dataclass, field, replace

from benchmarks.soak_workers import Crew, Soaked

POLL_S = 0.02
EMPTY_S = 15.0


@dataclass(frozen=True, slots=True)
class _Debt:
    ended_at: float
    plain: bool


@dataclass
class Ledger:
    """Legs that have ended and may still hold blocks."""

    worst_s: float = 0.0
    worst_plain_s: float = 0.0
    """Of those that were only aborted, both ends alive, among other requests."""
    worst_leg: str = ""
    worst_plain_leg: str = ""
    _open: defaultdict[str, dict[str, _Debt]] = field(default_factory=lambda: defaultdict(dict))

    def owes(self, worker: Soaked, leg_id: str, ended_at: float, *, plain: bool) -> None:
        """A leg has ended. The pool of a killed worker is gone with it."""
        if worker.up:
            self._open[worker.name][leg_id] = _Debt(ended_at, plain)

    def measured(self, leg_id: str, seconds: float, *, plain: bool = False) -> None:
        """Its blocks were back after so long."""
        if seconds > self.worst_s:
            self.worst_s, self.worst_leg = seconds, leg_id
        if plain and seconds > self.worst_plain_s:
            self.worst_plain_s, self.worst_plain_leg = seconds, leg_id

    def forgive(self, worker: Soaked) -> None:
        """The worker was killed, and its pool with it."""
        self._open.pop(worker.name, None)

    def begin_again(self) -> None:
        """A stopped worker goes on: nothing could come back before."""
        now = time.monotonic()
        for debts in self._open.values():
            debts |= {leg_id: replace(debt, ended_at=now) for leg_id, debt in debts.items()}

    async def watch(self, crew: Crew) -> None:
        """Look at every pool again and again, until cancelled."""
        while True:
            for worker in crew.all:
                if worker.answers and self._open[worker.name]:
                    await self._look(worker)
            await asyncio.sleep(POLL_S)

    async def _look(self, worker: Soaked) -> None:
        debts = dict(self._open[worker.name])
        asked_at = time.monotonic()
        try:
            look = await asyncio.to_thread(worker.probe.look)
        except OSError:
            return  # Killed just now.
        for leg_id in debts:
            debt = None if leg_id in look.held else self._open[worker.name].pop(leg_id, None)
            if debt is not None:
                self.measured(leg_id, max(0.0, asked_at - debt.ended_at), plain=debt.plain)


async def leaked(crew: Crew) -> dict[str, int]:
    """Wait until no worker uses a block; worker → blocks that do not come back."""
    give_up_at = time.monotonic() + EMPTY_S
    found = await _used(crew)
    while found and time.monotonic() < give_up_at:
        await asyncio.sleep(POLL_S)
        found = await _used(crew)
    return found


async def _used(crew: Crew) -> dict[str, int]:
    used = {}
    for worker in crew.all:
        if worker.up:
            legs = (await worker.link.report()).legs
            blocks = (await asyncio.to_thread(worker.probe.look)).used
            if blocks or legs:
                used[worker.name] = blocks or legs
    return used
