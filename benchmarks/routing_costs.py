"""What routing costs: the time of one decision over 64 workers, the memory of the index."""

from __future__ import annotations

import gc
import random
import resource
import time
import tracemalloc
from dataclasses import dataclass
from statistics import median
from typing import Any

from baton import prefix_keys as keys
from baton.costs import PrefillCurve
from baton.prefix_keys import ROUTING_BLOCK_TOKENS
from router.policy import affinity, rings
from router.policy.affinity import Pool, Prompt, Reuse, Rules
from router.policy.hotness import Hotness
from router.policy.index import BlockIndex, Delta

_WORKERS = 64
_PROMPT_BLOCKS = 40
_SESSIONS = 2_000
_ROUNDS, _BEST_ROUNDS = 33, 11
_SETTLING = 3
"""Rounds until the window of recent prefixes has the same in it whenever a decision comes again."""
_SAME_WORK = 600
_INDEX_BLOCKS = 350_000
"""Just above a size at which dictionaries grow, where they are emptiest."""


def measured() -> dict[str, Any]:
    """Decisions over 64 workers for prompts of 40 blocks, and the index at its barest.

    `decide_us_p99` is processor time of single decisions, in the best round, without those in the
    middle of which the system gave the processor to somebody else; `decide_wall_us_p99` has those,
    too. A virtual machine's timer interrupts each processor 250 times a second for 20 to 80 µs,
    which count as the thread's own time: more than one in a hundred decisions has one in it. So
    `decide_typical_us_*` tell what the decisions themselves differ by: the same 2,000 are made
    round after round in one order, each prompt as cold as in a router when its turn comes again,
    and each counts as its median over the fastest third of rounds. `noise_p99_over_p50` is what
    the machine does to work that is always the same, measured once. The garbage collector runs
    after `gc.freeze`.
    """
    gc.collect()
    gc.freeze()
    decider = _Decider(random.Random(0))
    rounds = [decider.round() for _ in range(_SETTLING + _ROUNDS)][_SETTLING:]
    gc.unfreeze()
    decisions = _typical(rounds)
    return {
        "decide_us_p99": round(min(_share(r.alone_us, 0.99) for r in rounds), 1),
        "decide_typical_us_p50": round(_share(decisions, 0.5), 1),
        "decide_typical_us_p99": round(_share(decisions, 0.99), 1),
        "decide_wall_us_p99": round(min(_share(r.wall_us, 0.99) for r in rounds), 1),
        "noise_p99_over_p50": round(min(r.noise for r in rounds), 2),
        "index_bytes_per_block": round(_index_bytes(_INDEX_BLOCKS), 1),
    }


@dataclass(frozen=True, slots=True)
class _Times:
    """What the decisions of one round took."""

    cpu_us: list[float]
    alone_us: list[float]
    """The same without those that had to leave the processor to others."""
    wall_us: list[float]
    noise: float
    """p99 over p50 of the processor time of work that is always the same, in the same round."""


class _Decider:
    """Key, homes, match, price and choice."""

    def __init__(self, chance: random.Random) -> None:
        sessions = _sessions()
        self._index = _filled(sessions, chance)
        self._order = chance.sample(sessions, len(sessions))
        self._changes = [(chance.randrange(_WORKERS), chance.random() * 3) for _ in sessions]
        self._hotness = Hotness(_WORKERS)
        self._ring = rings.build([f"worker-{n}" for n in range(_WORKERS)])
        self._queue_s = [chance.random() * 3 for _ in range(_WORKERS)]
        curves = [PrefillCurve(0.01, 1e-4, 1e-9)] * _WORKERS
        self._pool = Pool(self._queue_s, curves, (1 << _WORKERS) - 1, fresh=True)
        self._rules, self._reuse = Rules(), Reuse()

    def round(self) -> _Times:
        """A decision for each prompt while queues change, the same ones in every round."""
        cpu_us, alone_us, wall_us, same = [list[float]() for _ in range(4)]
        for blocks, (worker, queue_s) in zip(self._order, self._changes, strict=True):
            self._queue_s[worker] = queue_s
            switches = _switches()
            wall, cpu = time.perf_counter_ns(), time.thread_time_ns()
            self._decide(blocks)
            cpu_ns, wall_ns = time.thread_time_ns() - cpu, time.perf_counter_ns() - wall
            cpu_us.append(cpu_ns / 1e3)
            wall_us.append(wall_ns / 1e3)
            if _switches() == switches:
                alone_us.append(cpu_ns / 1e3)
            same.append(_same_work_ns())
        return _Times(cpu_us, alone_us, wall_us, _share(same, 0.99) / _share(same, 0.5))

    def _decide(self, blocks: tuple[int, ...]) -> None:
        key = self._hotness.observe(blocks)
        homes = self._ring.candidates(key.key, key.copies)
        size = ROUTING_BLOCK_TOKENS
        prompt = Prompt(len(blocks) * size, homes, 5.0, size, size)
        levels = self._index.match(blocks)
        at_price = affinity.price(self._queue_s, self._pool.open_mask, self._rules, exact=True)
        affinity.choose(prompt, self._pool, levels, self._rules, self._reuse, at_price)


def _typical(rounds: list[_Times]) -> list[float]:
    """What each decision took, as the median of the fastest rounds."""
    fastest = sorted(rounds, key=lambda r: _share(r.cpu_us, 0.5))[:_BEST_ROUNDS]
    return [median(times) for times in zip(*(r.cpu_us for r in fastest), strict=True)]


def _switches() -> int:
    """How often this thread had to leave its processor to others."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw


def _same_work_ns() -> float:
    began, total = time.thread_time_ns(), 0
    for number in range(_SAME_WORK):
        total += number
    return time.thread_time_ns() - began


def _sessions() -> list[tuple[int, ...]]:
    """Prompts that share their first two blocks, and nothing else."""
    shared = keys.of_hashes(range(2), keys.salt("cost"))
    own = _PROMPT_BLOCKS - len(shared)
    starts = range(0, _SESSIONS * own, own)
    return [shared + keys.of_hashes(range(n, n + own), shared[-1]) for n in starts]


def _filled(sessions: list[tuple[int, ...]], chance: random.Random) -> BlockIndex:
    """Each prompt is on three workers, each time up to another block."""
    index = BlockIndex(1 << 20)
    held: list[list[int]] = [[] for _ in range(_WORKERS)]
    for blocks in sessions:
        for worker in chance.sample(range(_WORKERS), 3):
            held[worker] += blocks[: chance.randrange(2, _PROMPT_BLOCKS)]
    for worker, stored in enumerate(held):
        index.apply(worker, Delta(1, tuple(stored), full=True), 0.0)
    return index


def _share(values: list[float], share: float) -> float:
    return sorted(values)[int(len(values) * share)]


def _index_bytes(blocks: int) -> float:
    """Bytes per block and worker where no two workers share a block, which is the worst case."""
    gc.collect()
    tracemalloc.start()
    index = BlockIndex(blocks)
    for worker in range(_WORKERS):
        mine = range(worker, blocks, _WORKERS)
        index.apply(worker, Delta(1, tuple(keys.of_hashes(mine, worker)), full=True), 0.0)
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return used / blocks
