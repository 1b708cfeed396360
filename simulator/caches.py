"""The prompt blocks of several workers: each an LRU, all with one index."""

from __future__ import annotations

from collections.abc import Sequence

from router.policy.index import Holders, Levels


class Caches:
    """Of each worker at most `blocks_max` blocks; the least recently used leave first."""

    def __init__(self, workers: int, blocks_max: int) -> None:
        self._blocks_max = blocks_max
        self._held: list[dict[int, None]] = [{} for _ in range(workers)]
        self._holders = Holders()
        self._all = (1 << workers) - 1

    def match(self, worker: int, blocks: Sequence[int]) -> int:
        """How many leading blocks are there."""
        held = self._held[worker]
        for count, block in enumerate(blocks):
            if block not in held:
                return count
        return len(blocks)

    def levels(self, blocks: Sequence[int]) -> Levels:
        """How many leading blocks are on each worker."""
        return self._holders.levels(blocks, self._all)

    def use(self, worker: int, blocks: Sequence[int]) -> None:
        """The blocks are there now; a prompt's tail leaves before its head."""
        held, bit = self._held[worker], 1 << worker
        for block in reversed(blocks):
            if block in held:
                del held[block]
            else:
                self._holders.add(block, bit)
            held[block] = None
        while len(held) > self._blocks_max:
            oldest = next(iter(held))
            del held[oldest]
            self._holders.drop(oldest, bit)

    def clear(self, worker: int) -> None:
        """Everything there is lost."""
        for block in self._held[worker]:
            self._holders.drop(block, 1 << worker)
        self._held[worker].clear()
