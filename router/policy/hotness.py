"""How much of a prompt is its routing key: longer while the key is too hot for two workers.

A key with a share of traffic above 2/n cannot be balanced by two fixed choices among n workers
(Partial Key Grouping, arXiv 1510.05714); DualMap (arXiv 2602.06502) lengthens keys at that bound
and shortens them below 1/n. A prompt that ends before its key is cool gets more than two workers
instead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

BLOCKS_MIN = 2
BLOCKS_MAX = 64
_WINDOW_MIN = 256
_WINDOW_PER_WORKER = 32
"""Requests in the window per worker: a key at the bound is then seen about 64 times."""
_SAMPLES_MIN = 64
"""Shares are taken of at least so many requests, so that the first ones are not all hot."""


class RoutingKey(NamedTuple):
    """The prefix that decides a request's workers, and how many workers it needs."""

    key: int
    blocks: int
    share: float
    """Of the recent requests, this one included."""
    copies: int
    """Two, or more where the prefix alone is too hot for two and cannot be lengthened."""


class Hotness:
    """Counts recent prefixes in a sliding window. Owned by one router; memory is bounded."""

    def __init__(self, workers: int) -> None:
        self.resize(workers)
        self._recent: deque[tuple[int, ...]] = deque()
        self._counts: dict[int, int] = {}
        self._split: set[int] = set()

    def resize(self, workers: int) -> None:
        """The pool has so many workers from now on."""
        self._workers = max(workers, 1)
        self._window = max(_WINDOW_MIN, _WINDOW_PER_WORKER * self._workers)

    def observe(self, keys: Sequence[int]) -> RoutingKey:
        """The routing key of one more request. `keys` are its routing blocks' keys, at least one.

        Raises ValueError for a prompt without a key: what is shorter than a block has no prefix
        worth a place.
        """
        if not keys:
            raise ValueError("a prompt shorter than one block has no routing key")
        last, split = min(len(keys), BLOCKS_MAX), self._split
        first = depth = min(BLOCKS_MIN, last)
        while depth < last and keys[depth - 1] in split:
            depth += 1
        # From the shortest routing key to the one in force.
        self._remember(tuple(keys[first - 1 : depth]))
        key, copies = keys[depth - 1], 2
        share = self._counts[key] / max(len(self._recent), _SAMPLES_MIN)
        if share > 2 / self._workers:
            split.add(key)
            if depth == last:
                copies = min(self._workers, 1 + int(share * self._workers))
        return RoutingKey(key, depth, share, copies)

    def _remember(self, path: tuple[int, ...]) -> None:
        recent, counts = self._recent, self._counts
        recent.append(path)
        for key in path:
            counts[key] = counts.get(key, 0) + 1
        while len(recent) > self._window:
            cool = max(len(recent) - 1, _SAMPLES_MIN) / self._workers
            for key in recent.popleft():
                left = counts[key] - 1
                if left < cool:
                    self._split.discard(key)
                if left:
                    counts[key] = left
                else:
                    del counts[key]
