"""What a fault does to a worker, and how it is taken back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from signal import Signals

from benchmarks.faults_cells import DEADLY, Fault
from benchmarks.faults_workers import Manned, Whom

LASTS_S = 5.0
"""Stops, slowness and cuts are over after this time."""
_RUNS_S, _RESTS_S = 0.01, 0.09
"""Of a worker that is ten times as slow."""


async def strike(fault: Fault, victim: Manned, whom: Whom) -> None:
    """Hit the worker; returns when the fault is over.

    An engine that had stopped itself goes on, unless it is to stop. A cut befalls its link.
    """
    victim.frozen = fault not in DEADLY
    try:
        await _BLOWS[fault](victim, whom)
    finally:
        victim.frozen = False


async def _kill(victim: Manned, whom: Whom) -> None:
    victim.send(Signals.SIGKILL, whom)
    victim.send(Signals.SIGCONT, Whom.ENGINE)


async def _term(victim: Manned, whom: Whom) -> None:
    victim.send(Signals.SIGTERM, whom)
    victim.send(Signals.SIGCONT, Whom.ENGINE)


async def _stop(victim: Manned, whom: Whom) -> None:
    victim.send(Signals.SIGSTOP, whom)
    await asyncio.sleep(LASTS_S)
    victim.send(Signals.SIGCONT)


async def _slow(victim: Manned, whom: Whom) -> None:
    until = time.monotonic() + LASTS_S
    while time.monotonic() < until:
        victim.send(Signals.SIGCONT, whom)
        await asyncio.sleep(_RUNS_S)
        victim.send(Signals.SIGSTOP, whom)
        await asyncio.sleep(_RESTS_S)
    victim.send(Signals.SIGCONT)


async def _cut(victim: Manned, _whom: Whom) -> None:
    relay = victim.relay
    assert relay is not None, f"{victim.name} is down"
    victim.send(Signals.SIGCONT, Whom.ENGINE)
    relay.cut()
    await asyncio.sleep(LASTS_S)
    relay.mend()


_BLOWS: dict[Fault, Callable[[Manned, Whom], Awaitable[None]]] = {
    Fault.KILL: _kill,
    Fault.TERM: _term,
    Fault.STOP: _stop,
    Fault.SLOW: _slow,
    Fault.CUT: _cut,
}
