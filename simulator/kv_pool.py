"""The KV memory of one engine: blocks that requests hold, and a prefix cache in what is left.

Memory is counted in tokens. The whole blocks of prompts are shared by key and counted once; what
is not a whole block yet (a prompt's tail, an answer, room reserved ahead) is private. A block that
nobody holds stays as cache until room is needed, the least recently used first; of one prompt the
tail leaves before the head, as in vLLM, so that what is cached of a prompt is always a prefix.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from simulator.traces.request import BLOCK_TOKENS


class KvPool:
    """Owns the counts. Callers ask `fits` first: taking more than there is raises ValueError."""

    def __init__(self, capacity_tokens: int) -> None:
        if capacity_tokens < BLOCK_TOKENS:
            raise ValueError(f"KV memory holds at least a block, not {capacity_tokens} tokens")
        self.capacity = capacity_tokens
        self.private = 0
        self._holders: dict[int, int] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()
        self._logs: list[list[tuple[int, bool]]] = []

    @property
    def used(self) -> int:
        """Tokens of memory that requests hold."""
        return self.private + BLOCK_TOKENS * len(self._holders)

    @property
    def room(self) -> int:
        """Tokens that could still be taken, at the cost of the cache."""
        return self.capacity - self.private - BLOCK_TOKENS * len(self._holders)

    @property
    def cached_blocks(self) -> int:
        """Blocks that a prompt could find, held or not."""
        return len(self._holders) + len(self._idle)

    def match(self, keys: Sequence[int]) -> int:
        """How many leading blocks are here."""
        holders, idle = self._holders, self._idle
        for count, key in enumerate(keys):
            if key not in holders and key not in idle:
                return count
        return len(keys)

    def fits(self, keys: Sequence[int], private: int, headroom: int = 0) -> bool:
        """Whether the blocks, all of them here, and private room can be held at once."""
        idle = self._idle
        woken = sum(1 for key in keys if key in idle)
        return BLOCK_TOKENS * woken + private + headroom <= self.room

    def take(self, keys: Sequence[int], private: int) -> None:
        """Holds blocks that are here, and private room."""
        for key in keys:
            self._hold(key)
        self.private += private
        self._shrink()

    def publish(self, keys: Sequence[int]) -> None:
        """Turns private room into whole blocks that others can find."""
        for key in keys:
            self.private -= BLOCK_TOKENS
            self._hold(key)
        self._shrink()

    def grow(self, tokens: int) -> None:
        """More private room, for tokens of answers."""
        self.private += tokens
        self._shrink()

    def release(self, keys: Sequence[int], private: int) -> None:
        """Gives back blocks, given in the order of the prompt, and private room."""
        holders, idle = self._holders, self._idle
        self.private -= private
        for key in reversed(keys):
            left = holders[key] - 1
            if left:
                holders[key] = left
            else:
                del holders[key]
                idle[key] = None

    def follow(self) -> list[tuple[int, bool]]:
        """A list that receives each later change of the cache: (key, whether it came)."""
        log: list[tuple[int, bool]] = [(key, True) for key in (*self._holders, *self._idle)]
        self._logs.append(log)
        return log

    def check(self) -> None:
        """Raises AssertionError when the counts contradict themselves."""
        total = self.used + BLOCK_TOKENS * len(self._idle)
        assert self.private >= 0, f"{self.private} private tokens"
        assert total <= self.capacity, f"{total} of {self.capacity} tokens"
        assert all(count > 0 for count in self._holders.values())
        assert self._holders.keys().isdisjoint(self._idle)

    def _hold(self, key: int) -> None:
        holders = self._holders
        if key in holders:
            holders[key] += 1
            return
        holders[key] = 1
        if key in self._idle:
            del self._idle[key]
        else:
            for log in self._logs:
                log.append((key, True))

    def _shrink(self) -> None:
        idle = self._idle
        surplus = self.private + BLOCK_TOKENS * (len(self._holders) + len(idle)) - self.capacity
        while surplus > 0:
            if not idle:
                raise ValueError(f"{surplus} tokens more than there is room for")
            key, _ = idle.popitem(last=False)
            surplus -= BLOCK_TOKENS
            for log in self._logs:
                log.append((key, False))
