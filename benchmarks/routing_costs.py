"""What routing costs: the time of one decision over 64 workers, the memory of the index."""

from __future__ import annotations

import gc
import random
import time
import tracemalloc
from dataclasses import dataclass
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
_ROUNDS, _DECISIONS = 5, 2_000
_INDEX_BLOCKS = (150_000, 180_000, 350_000)
"""Around the sizes at which a dictionary grows, where it is emptiest and fullest."""


def measured() -> dict[str, Any]:
    """Decisions over 64 workers for prompts of 40 blocks, and the index at its fullest and barest.

    `decide_us_p99` is processor time, the best of some rounds: wall time, given beside it, also
    counts the neighbours on a shared machine. The garbage collector runs, as in the router.
    """
    rounds = [_decide(number) for number in range(_ROUNDS)]
    return {
        "decide_us_p50": round(min(_share(r.cpu_us, 0.5) for r in rounds), 1),
        "decide_us_p99": round(min(_share(r.cpu_us, 0.99) for r in rounds), 1),
        "decide_wall_us_p99": round(min(_share(r.wall_us, 0.99) for r in rounds), 1),
        "index_bytes_per_block": round(max(map(_index_bytes, _INDEX_BLOCKS)), 1),
    }


@dataclass(frozen=True, slots=True)
class _Times:
    """What each decision took, in order of size."""

    cpu_us: list[float]
    wall_us: list[float]


def _decide(seed: int) -> _Times:
    """Key, homes, match, price and choice."""
    chance = random.Random(seed)
    sessions = _sessions()
    index = _filled(sessions, chance)
    hotness, ring = Hotness(_WORKERS), rings.build([f"worker-{n}" for n in range(_WORKERS)])
    queue_s = [chance.random() * 3 for _ in range(_WORKERS)]
    curves = [PrefillCurve(0.01, 1e-4, 1e-9)] * _WORKERS
    pool = Pool(queue_s, curves, (1 << _WORKERS) - 1, fresh=True)
    rules, reuse = Rules(), Reuse()

    def decide(blocks: tuple[int, ...]) -> None:
        key = hotness.observe(blocks)
        homes = ring.candidates(key.key, key.copies)
        prompt = Prompt(len(blocks) * ROUTING_BLOCK_TOKENS, homes, 5.0, ROUTING_BLOCK_TOKENS)
        levels = tuple([(n * ROUTING_BLOCK_TOKENS, mask) for n, mask in index.match(blocks)])
        at_price = affinity.price(queue_s, pool.open_mask, rules, exact=True)
        affinity.choose(prompt, pool, levels, rules, reuse, at_price)

    wall_us, cpu_us = [], []
    for _ in range(_DECISIONS):
        blocks = chance.choice(sessions)
        queue_s[chance.randrange(_WORKERS)] = chance.random() * 3
        wall, cpu = time.perf_counter_ns(), time.thread_time_ns()
        decide(blocks)
        cpu_us.append((time.thread_time_ns() - cpu) / 1e3)
        wall_us.append((time.perf_counter_ns() - wall) / 1e3)
    return _Times(sorted(cpu_us), sorted(wall_us))


def _sessions() -> list[tuple[int, ...]]:
    """Prompts that share their first two blocks, and nothing else."""
    shared = keys.of_hashes(range(2), keys.salt("cost"))
    own = _PROMPT_BLOCKS - len(shared)
    return [shared + keys.of_hashes(range(n * own, (n + 1) * own), shared[-1]) for n in range(2000)]


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
    return values[int(len(values) * share)]


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
