"""Names for the blocks of vLLM's prefix cache: from its block hashes to the keys that routers use.

Pure; lives in the engine process, where the tokens of a block are at hand. A router computes the
same keys from the prompt (`baton.prefix_keys`). A block that cannot be named for certain is left
out, and so is everything that builds on it.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from typing import Any

from baton import prefix_keys
from engine.holdings import NetChange


class BlockNames:
    """Key of each cached block, by vLLM's hash of it. At most `blocks_max`."""

    def __init__(self, model: str, block_tokens: int, blocks_max: int) -> None:
        self._model = model
        self._block_tokens = block_tokens
        self._blocks_max = blocks_max
        self._keys: dict[Hashable, int] = {}
        self._more: dict[Hashable, int] = {}
        """Copies beyond the first: two prompts computed at once store a block each, and the cache
        tells the end of each."""
        self._change = NetChange()
        self.left_out = 0

    def __len__(self) -> int:
        return len(self._keys)

    def stored(
        self,
        hashes: Sequence[Hashable],
        parent: Hashable | None,
        tokens: Sequence[int],
        lora: str | None,
        extras: Sequence[tuple[Any, ...] | None] | None,
    ) -> None:
        """Blocks that follow each other were cached.

        `extras` has for each block what its hash covers besides tokens: LoRA, tenant salt, images.
        """
        keys = self._chain(len(hashes), parent, tokens, lora, extras or (None,) * len(hashes))
        for position, block in enumerate(hashes):
            if block in self._keys:
                self._more[block] = self._more.get(block, 0) + 1
            elif position < len(keys) and len(self._keys) < self._blocks_max:
                self._keys[block] = keys[position]
                self._change.store(keys[position])
            else:
                self.left_out += 1

    def removed(self, block: Hashable) -> None:
        """One copy of a block has left the cache."""
        if more := self._more.pop(block, 0):
            if more > 1:
                self._more[block] = more - 1
        elif (key := self._keys.pop(block, None)) is not None:
            self._change.remove(key)

    def cleared(self) -> None:
        """The cache was emptied."""
        self._more.clear()
        for block in tuple(self._keys):
            self.removed(block)

    def take(self) -> tuple[Collection[int], Collection[int]]:
        """Keys (stored, removed) since the last call."""
        return self._change.take()

    def _chain(
        self,
        count: int,
        parent: Hashable | None,
        tokens: Sequence[int],
        lora: str | None,
        extras: Sequence[tuple[Any, ...] | None],
    ) -> Sequence[int]:
        whole = len(tokens) == count * self._block_tokens and len(extras) == count
        start = self._start(parent, lora, extras[0]) if whole and count else None
        if start is None:
            return ()
        first = 1 if parent is None else 0
        others = (i for i in range(first, count) if _others(extras[i], lora))
        return prefix_keys.of_tokens(tokens, self._block_tokens, start)[: next(others, count)]

    def _start(
        self, parent: Hashable | None, lora: str | None, extra: tuple[Any, ...] | None
    ) -> int | None:
        if parent is not None:
            return self._keys.get(parent)
        others = _others(extra, lora)
        if len(others) > 1 or not all(isinstance(other, str) for other in others):
            return None
        return prefix_keys.salt(self._model, lora or "", "".join(others))


def _others(extra: tuple[Any, ...] | None, lora: str | None) -> tuple[Any, ...]:
    """What a block's hash covers besides tokens and LoRA."""
    others = extra or ()
    return others[1:] if lora is not None and others[:1] == (lora,) else others
