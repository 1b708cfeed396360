"""One transport of a soak: its engines, the faults in their order, the figures."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from itertools import count
from pathlib import Path
from typing import Any, TypeAlias

from grpc import RpcError

from baton.tasks import Tasks
from benchmarks.legs import LegEndedError
from benchmarks.soak_driver import Driver, many
from benchmarks.soak_plan import plans
from benchmarks.soak_probe import Look
from benchmarks.soak_questions import known, near_ties, questions
from benchmarks.soak_result import Result, Size, say
from benchmarks.soak_trials import Trials
from benchmarks.soak_workers import Crew

Faults: TypeAlias = Coroutine[Any, Any, None]

LONG_QUESTIONS = 2
TRIAL_NUMBERS = 1_000_000
"""Trials' requests are numbered from here on."""


async def soak(size: Size, result: Result, folder: Path) -> None:
    """Every transport, one after the other."""
    for transport in size.transports:
        say(f"starting three engines on {transport or 'the transport of UCX choice'}")
        async with Tasks("soak") as tasks:
            await Soak(result, size, Crew(folder, transport, tasks), tasks).run()


class Soak:
    """One transport's engines from start to end."""

    def __init__(self, result: Result, size: Size, crew: Crew, tasks: Tasks) -> None:
        self._result = result
        self._size = size
        self._crew = crew
        self._tasks = tasks
        self._looks: dict[int, Look] = {}
        """The last one at each engine, by process."""
        self._preemptions: dict[int, int] = {}

    async def run(self) -> None:
        """Start, all faults, stop. What cannot be carried out is counted as broken."""
        try:
            await self._crew.start()
            say("the first two engines are up")
            await self._between()
        except (AssertionError, LegEndedError, OSError, RpcError) as error:
            self._result.counts["broken"] += 1
            self._result.stories.append(f"broken: {type(error).__name__}: {error}")
        finally:
            self._result.left += await self._crew.end()

    async def _between(self) -> None:
        found = await known(self._crew.decode.link, questions(LONG_QUESTIONS))
        say(f"{len(found)} answers known, {near_ties(found)} near ties")
        driver = Driver(self._crew, self._result.seed, found)
        longs = range(len(found) - LONG_QUESTIONS, len(found))
        trials = Trials(self._crew, driver, longs, count(TRIAL_NUMBERS))
        self._tasks.spawn(driver.ledger.watch(self._crew), "ledger")
        try:
            await self._faults(driver, trials, longs[0])
        finally:
            self._book(driver, trials)

    async def _faults(self, driver: Driver, trials: Trials, shorts: int) -> None:
        await self._after("aborts", trials, trials.aborts(self._size.abort_moments))
        spare = self._tasks.spawn(self._crew.start_spare(), "spare")
        planned = plans(self._result.seed, shorts + 1)
        for number, requests in enumerate(self._size.requests):
            stretch = many(driver, planned, requests, self._size.users)
            if number == 0:
                await self._after(f"{requests} requests", trials, stretch)
                await spare
                continue
            amid, then = self._more(trials, number)
            await self._after(f"{requests} more, {number}", trials, stretch, amid)
            await self._after(f"what came next, {number}", trials, then)
        first, second = self._crew.prefills
        await self._after("a stop", trials, trials.stopped(first, kill=False))
        await self._after("a kill of prefill", trials, trials.kill_prefill(second))
        await self._after("a kill of decode", trials, trials.kill_decode())

    def _more(self, trials: Trials, number: int) -> tuple[Faults, Faults]:
        """What befalls the workers amid a stretch of requests, and after it."""
        first, second = self._crew.prefills
        match number % 3:
            case 1:
                return trials.killed_amid(second), trials.stopped_then_killed(first)
            case 2:
                return trials.stopped_amid(second), trials.killed_decode_comes_back()
            case _:
                return trials.killed_amid(first), trials.stopped(second, kill=False)

    async def _after(self, what: str, trials: Trials, *faults: Faults) -> None:
        """Let something go wrong; afterwards both pools have to be whole."""
        await asyncio.gather(*faults)
        self._crew.count_lost()
        leaks = await trials.leaks()
        self._result.counts["leaked_blocks"] += leaks
        for worker in filter(lambda w: w.up, self._crew.all):
            self._looks[worker.engine_pid] = worker.probe.look()
            report = await worker.link.report()
            self._preemptions[worker.engine_pid] = report.load.preemptions
        say(f"after {what}: {leaks} blocks leaked")

    def _book(self, driver: Driver, trials: Trials) -> None:
        result, tally, ledger = self._result, driver.tally, driver.ledger
        result.ends += tally.ends
        result.stories += tally.stories
        result.counts["wrong"] += len(tally.wrong)
        result.counts["ties"] += tally.ties
        result.counts["recomputed"] += _recomputed(tally.answered, self._looks.values())
        result.counts["engines_lost"] += len(self._crew.lost)
        result.counts["fence_broken"] += trials.fence_broken
        result.counts["blocks_changed"] += trials.blocks_changed
        result.counts["preemptions"] += sum(self._preemptions.values())
        result.counts.update(trials.counts)
        result.counts.update(tally.planned)
        for look in self._looks.values():
            result.counts.update({f"messages_{what}": n for what, n in look.counts.items()})
        result.counts.update({f"error_{reason}": n for reason, n in tally.reasons.items()})
        result.chunk_s = max(result.chunk_s, trials.chunk_s)
        result.worst_reclaim_s = max(result.worst_reclaim_s, ledger.worst_s)
        result.worst_abort_reclaim_s = max(result.worst_abort_reclaim_s, trials.worst_abort_s)
        busy_s = max(result.worst_busy_abort_reclaim_s, ledger.worst_plain_s)
        result.worst_busy_abort_reclaim_s = busy_s
        say(f"slowest to come back: {ledger.worst_leg}, {ledger.worst_s:.3f} s")
        say(f"after a plain abort: {ledger.worst_plain_leg}, {ledger.worst_plain_s:.3f} s")


def _recomputed(answered: set[str], looks: Iterable[Look]) -> int:
    """Requests that were answered although their KV did not arrive."""
    failed = frozenset[str]().union(*(look.failed_loads for look in looks))
    return len(answered & failed)
