"""Single faults at chosen moments: aborts on idle engines, a stopped prefill, killed engines."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from baton.wire import worker_pb2 as wire
from benchmarks.legs import Leg
from benchmarks.soak_driver import Both, Driver
from benchmarks.soak_faults import UNSPOILT, Spoil
from benchmarks.soak_ledger import leaked
from benchmarks.soak_plan import Planned, Way
from benchmarks.soak_questions import LONG_TOKENS
from benchmarks.soak_result import WRITE_DEADLINE_S
from benchmarks.soak_workers import CHUNK_TOKENS, Crew, Soaked

POLL_S = 0.002
BOUND_S = 20.0
_AFTER_DEADLINE_S = 0.7
_TAIL_S = 0.3
AMID_S = 5.0


@dataclass
class Trials:
    """Runs them one at a time, while nothing else runs."""

    crew: Crew
    driver: Driver
    long: range
    """Numbers of the long questions."""
    numbers: Iterator[int]
    worst_abort_s: float = 0.0
    fence_broken: int = 0
    """Blocks of a stopped prefill's tickets that went back to the pool before the proof."""
    blocks_changed: int = 0
    """Blocks of others that changed when the stopped prefill went on."""
    chunk_s: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)

    def _planned(self, stop_at: int = 0) -> Planned:
        number = next(self.numbers)
        question = self.long[number % len(self.long)]
        return Planned(number, question, f"own {number}", spoil=Spoil(stop_at=stop_at))

    def _count(self, what: str, more: int = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + more

    async def _finish(self, planned: Planned, both: Both) -> None:
        """Wait for the answer of a request that the trial left alone."""
        async with asyncio.timeout(BOUND_S):
            self.driver.tally.ends[await self.driver.answer(planned, both)] += 1
        await both.abort()

    # -- aborts

    async def aborts(self, moments: Iterable[float]) -> None:
        """Both legs taken back at each of these moments, seconds; None of a leg's first token."""
        await self._step()
        for after_s in moments:
            await self._abort(after_s)

    async def _step(self) -> None:
        """How long one step of prefill takes: an abort in the midst of one has to wait."""
        planned, started = self._planned(), time.monotonic()
        both = await self.driver.submit(planned)
        assert both.prefill is not None
        await both.prefill.leg.next(wire.Prefilled, BOUND_S)
        self.chunk_s = (time.monotonic() - started) / -(-LONG_TOKENS // CHUNK_TOKENS)
        await self._finish(planned, both)

    async def _abort(self, after_s: float) -> None:
        both = await self.driver.submit(self._planned())
        if after_s < 0:
            await both.decode.leg.next(object, BOUND_S)
        await asyncio.sleep(max(0.0, after_s))
        aborted_at = time.monotonic()
        await both.abort()
        await _until(lambda: self._used() == 0)
        seconds = time.monotonic() - aborted_at
        self.worst_abort_s = max(self.worst_abort_s, seconds)
        self.driver.ledger.measured(f"{both.decode.leg.leg_id} aborted", seconds)
        self.driver.tally.ends["cancelled"] += 1
        self._count("abort_trials")

    def _used(self) -> int:
        return sum(worker.probe.look().used for worker in self.crew.all if worker.up)

    # -- a stopped prefill

    async def stopped(self, prefill: Soaked, *, kill: bool) -> None:
        """Prefill stops in mid-write, its time passes, it goes on or is killed.

        One request is taken back meanwhile, another waits for what comes.
        """
        first = self._planned(stop_at=1)
        await self._compute_there(first, prefill)
        waiting = replace(self._planned(), question=self.long[0])
        taken = await self.driver.submit(first, prefill)
        await _until(lambda: is_stopped(prefill.engine_pid))
        mine = self._decode_look().get(taken.decode.leg.leg_id, ())
        assert mine, "prefill stopped before decode had blocks"
        left = await self.driver.submit(waiting, prefill)
        broken = await self._fenced_through(WRITE_DEADLINE_S + _AFTER_DEADLINE_S, mine)
        landed = self._has_landed(taken.decode.leg)
        await taken.decode.worker.link.abort(taken.decode.leg)
        broken += await self._fenced_through(_TAIL_S, mine)
        if landed:
            self._count("stops_too_late")
        else:
            self.fence_broken += broken
        self.driver.tally.ends["deadline"] += 1
        await self._go_on(prefill, taken, kill=kill)
        await self._finish(waiting, left)
        await taken.abort()
        self._count("stops_killed" if kill else "stops_continued")

    async def _compute_there(self, first: Planned, prefill: Soaked) -> None:
        """What prefill has in its cache leaves as one write: too much for a socket's buffer."""
        alone = replace(first, number=next(self.numbers), spoil=UNSPOILT, way=Way.SOLO_PREFILL)
        await self._finish(alone, await self.driver.submit(alone, prefill))

    def _has_landed(self, decode: Leg) -> bool:
        """Whether everything was in place before prefill stopped: where a write is a copy by the
        kernel it may be done, notice and all, when it has been posted. Then nothing is fenced."""
        answers = not decode.events.empty()
        return answers and decode.leg_id not in self.crew.decode.probe.look().failed_loads

    async def _fenced_through(self, seconds: float, mine: tuple[int, ...]) -> int:
        """How often one of these blocks was free meanwhile; others are served."""
        until, broken = time.monotonic() + seconds, 0
        while time.monotonic() < until:
            alone = replace(self._planned(), question=0, way=Way.SOLO_DECODE)
            await self.driver.ask(alone)
            references = self.crew.decode.probe.references()
            broken += sum(references[block] == 0 for block in mine)
            await asyncio.sleep(0.1)
        return broken

    def _decode_look(self) -> dict[str, tuple[int, ...]]:
        return dict(self.crew.decode.probe.look().held)

    async def _go_on(self, prefill: Soaked, both: Both, *, kill: bool) -> None:
        """From here on the blocks may come back, and nothing else may change."""
        leg_id, touched = both.decode.leg.leg_id, self._held()
        mine = self._decode_look().get(leg_id, ())
        before = self.crew.decode.probe.sums()
        touched |= self._held()
        since = time.monotonic()
        self._end_stop(prefill, kill=kill)
        await _until(lambda: self._is_back(leg_id, touched))
        self.driver.ledger.measured(f"{leg_id} stopped", time.monotonic() - since)
        at_end = self.crew.decode.probe.sums()
        self._count("blocks_written_late", sum(before[b] != at_end[b] for b in mine))
        await self._compare(before, touched)

    def _held(self) -> set[int]:
        return {block for blocks in self._decode_look().values() for block in blocks}

    def _is_back(self, leg_id: str, touched: set[int]) -> bool:
        held = self._decode_look()
        touched.update(block for blocks in held.values() for block in blocks)
        return leg_id not in held

    def _end_stop(self, prefill: Soaked, *, kill: bool) -> None:
        if kill:
            self.driver.ledger.forgive(prefill)
            prefill.kill()
        else:
            prefill.signal(signal.SIGCONT)

    async def _compare(self, before: list[int], touched: set[int]) -> None:
        """Late writes would land about now. What requests hold meanwhile is theirs to change."""
        until = time.monotonic() + _TAIL_S
        while time.monotonic() < until:
            touched |= self._held()
            await asyncio.sleep(POLL_S)
        after = self.crew.decode.probe.sums()
        touched |= self._held()
        changed = [b for b in range(len(after)) if after[b] != before[b] and b not in touched]
        self.blocks_changed += len(changed)

    # -- killed engines

    async def kill_prefill(self, prefill: Soaked) -> None:
        """In mid-transfer. Decode knows by its death that no write is left, and goes on alone."""
        planned = self._planned()
        both = await self.driver.submit(planned, prefill)
        await self._until_writing(both)
        self.driver.ledger.forgive(prefill)
        killed_at = time.monotonic()
        prefill.kill()
        leg_id = both.decode.leg.leg_id
        await _until(lambda: self._is_given_up(leg_id))
        self.driver.ledger.measured(f"{leg_id} after a kill", time.monotonic() - killed_at)
        await self._finish(planned, both)
        self._count("kills_prefill")

    def _is_given_up(self, leg_id: str) -> bool:
        look = self.crew.decode.probe.look()
        return leg_id in look.failed_loads or leg_id not in look.held

    async def kill_decode(self) -> None:
        """In mid-transfer. Prefill knows by its death that nobody needs its blocks."""
        both = await self.driver.submit(self._planned())
        await self._until_writing(both)
        assert both.prefill is not None
        prefill = both.prefill.worker
        self.driver.ledger.forgive(self.crew.decode)
        killed_at = time.monotonic()
        self.crew.decode.kill()
        ended = await both.decode.leg.next(wire.Ended, BOUND_S)
        self.driver.tally.ends["typed_error"] += 1
        self.driver.tally.reasons[ended.reason] += 1
        await both.abort()
        await _until(lambda: prefill.probe.look().used == 0)
        leg_id = both.prefill.leg.leg_id
        self.driver.ledger.measured(f"{leg_id} after a kill", time.monotonic() - killed_at)
        self._count("kills_decode")

    async def _until_writing(self, both: Both) -> None:
        """Decode has blocks, and prefill has had the time to write some."""
        await _until(lambda: both.decode.leg.leg_id in self._decode_look())
        await asyncio.sleep(0.1)

    # -- while requests go on

    async def killed_amid(self, prefill: Soaked) -> None:
        """Requests go on over the other one while this one is started again."""
        await asyncio.sleep(AMID_S)
        self.driver.ledger.forgive(prefill)
        prefill.kill()
        self._count("kills_prefill")
        await prefill.restart()

    async def stopped_amid(self, prefill: Soaked) -> None:
        """Some requests hang in it past their deadline, others go on over the other one."""
        await asyncio.sleep(AMID_S)
        prefill.stopped = True
        prefill.signal(signal.SIGSTOP)
        await asyncio.sleep(WRITE_DEADLINE_S * 1.5)
        prefill.signal(signal.SIGCONT)
        prefill.stopped = False
        self.driver.ledger.begin_again()
        self._count("stops_continued")

    async def stopped_then_killed(self, prefill: Soaked) -> None:
        """A stopped prefill that never goes on is replaced."""
        await self.stopped(prefill, kill=True)
        await prefill.restart()

    async def killed_decode_comes_back(self) -> None:
        """Requests wait for it."""
        await self.kill_decode()
        await self.crew.decode.restart()

    async def leaks(self) -> int:
        """Blocks that do not come back, over all workers."""
        found = await leaked(self.crew)
        if found:
            self.driver.tally.stories.append(f"leaked blocks: {found}")
        return sum(found.values())


async def _until(come: Callable[[], bool]) -> None:
    async with asyncio.timeout(BOUND_S):
        while not come():  # noqa: ASYNC110 - it is another process's
            await asyncio.sleep(POLL_S)


def is_stopped(pid: int) -> bool:
    """Whether the process has been stopped by a signal."""
    text = Path(f"/proc/{pid}/stat").read_text()
    return text.rpartition(")")[2].split()[0] == "T"
