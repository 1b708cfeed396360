"""What this router knows of the workers' prefix caches, by slot.

What workers say goes into an exact index, what this router sent itself into a shadow of it. The
exact one counts only while it is fresh; then and only then is a block that is not in it not there.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from baton.wire import worker_pb2 as pb
from router.policy.index import Applied, BlockIndex, Delta, Levels, Shadow

_BLOCKS_MAX = 1 << 22
"""Of one worker: 64 Mi tokens of KV at 16 tokens a block, more than any machine holds."""
_SHADOW_BLOCKS_MAX = 1 << 17
_RESYNC_EVERY_S = 1.0


class Caches:
    """Both memories. `problems` counts what of the workers' news could not be used, by kind."""

    def __init__(self) -> None:
        self._index = BlockIndex(_BLOCKS_MAX)
        self._shadow = Shadow(0, _SHADOW_BLOCKS_MAX)
        self._asked_at: dict[int, float] = {}
        self.problems: Counter[str] = Counter()

    def heard(self, slot: int, news: pb.CacheDelta, now: float) -> bool:
        """Takes over a worker's news; True when the worker has to be asked for all of it."""
        applied = self._apply(slot, news, now)
        if applied in (Applied.OK, Applied.STALE):
            return False
        self.problems[applied.value] += 1
        # A worker that claims too much would claim it again.
        return applied is Applied.GAP and self._may_ask(slot, now)

    def sent(self, slot: int, blocks: Sequence[int]) -> None:
        """A prompt was sent there, so it will be cached there."""
        self._shadow.sent(slot, blocks)

    def forget(self, slot: int) -> None:
        """The worker has left, was started anew, or is out of reach."""
        self._index.forget(slot)
        self._shadow.forget(slot)
        self._asked_at.pop(slot, None)

    def age_s(self, slot: int, now: float) -> float:
        """Seconds since a worker's last word; infinite while its cache is unknown."""
        return max(self._index.age_s(slot, now), 0.0)

    def known_at(self, slot: int) -> float:
        """When a worker last said so; minus infinity while its cache is unknown."""
        return self._index.known_at(slot)

    def blocks(self, slot: int) -> int:
        """Blocks that the worker is known to hold."""
        return self._index.blocks_of(slot)

    def match(self, blocks: Sequence[int], among: int, *, fresh: bool) -> Levels:
        """How much of a prompt the workers of a mask hold."""
        if fresh:
            return self._index.match(blocks, among)
        return tuple((n, m & among) for n, m in self._shadow.match(blocks) if m & among)

    def held(self, blocks: Sequence[int], among: int) -> Levels:
        """How much of a prompt the workers of a mask are known to hold."""
        return self._index.match(blocks, among)

    def _apply(self, slot: int, news: pb.CacheDelta, now: float) -> Applied:
        if not (news.full or news.stored or news.removed):
            return self._index.heard(slot, news.number, now)
        delta = Delta(news.number, tuple(news.stored), tuple(news.removed), news.full)
        return self._index.apply(slot, delta, now)

    def _may_ask(self, slot: int, now: float) -> bool:
        if now - self._asked_at.get(slot, -math.inf) < _RESYNC_EVERY_S:
            return False
        self._asked_at[slot] = now
        return True
