"""Which prompt blocks each worker holds, as far as this router knows.

`BlockIndex` is exact: built from numbered deltas (blocks stored, blocks removed) that workers send;
a gap in the numbers makes that worker's part unknown until a full list comes. `Shadow` needs no
worker's word: it remembers what this router itself sent where. Both answer how far a prompt's
leading blocks match on each worker, as levels of bit masks, so that one request costs a walk along
its own blocks however many workers there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

Levels = tuple[tuple[int, int], ...]
"""(leading blocks held, mask of the workers that hold exactly so many), longest first; workers that
hold none of the prompt are left out."""


class Applied(StrEnum):
    """What became of a delta."""

    OK = "ok"
    STALE = "stale"
    """Already known; ignored."""
    GAP = "gap"
    """Something before it is missing: ask for a full list."""
    FULL = "full"
    """The worker claims more blocks than it can have; its part is dropped."""


@dataclass(frozen=True, slots=True)
class Delta:
    """What changed on a worker. `number` counts its deltas from 1; `full` replaces everything."""

    number: int
    stored: tuple[int, ...] = ()
    removed: tuple[int, ...] = ()
    full: bool = False


class Holders:
    """Block key -> mask of workers. One small integer per distinct mask, one entry per block."""

    def __init__(self) -> None:
        self._masks: dict[int, int] = {}
        self._same: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._masks)

    def add(self, key: int, bit: int) -> bool:
        """Whether that is news."""
        before = self._masks.get(key, 0)
        if before & bit:
            return False
        self._masks[key] = self._shared(before | bit)
        return True

    def drop(self, key: int, bit: int) -> bool:
        """Whether that is news."""
        before = self._masks.get(key, 0)
        if not before & bit:
            return False
        if after := before & ~bit:
            self._masks[key] = self._shared(after)
        else:
            del self._masks[key]
        return True

    def drop_worker(self, bit: int) -> None:
        """Costs a walk over all blocks; workers are lost seldom."""
        held = [key for key, mask in self._masks.items() if mask & bit]
        for key in held:
            self.drop(key, bit)

    def levels(self, blocks: Sequence[int], among: int) -> Levels:
        """How far the leading blocks match on the workers of a mask."""
        found: list[tuple[int, int]] = []
        last: int | None = -1
        for count, mask in enumerate(map(self._masks.get, blocks)):
            # Equal masks are one object, and along a prompt most are equal.
            if mask is not last:
                last = mask
                still = among & (mask or 0)
                if still != among:
                    if count:
                        found.append((count, among & ~still))
                    among = still
                    if not among:
                        break
        if among and blocks:
            found.append((len(blocks), among))
        found.reverse()
        return tuple(found)

    def _shared(self, mask: int) -> int:
        """Equal masks as one object: 64 workers make integers of 48 bytes."""
        if len(self._same) > 4096:
            self._same.clear()
        return self._same.setdefault(mask, mask)


@dataclass(slots=True)
class _Known:
    """The state of one worker's part."""

    number: int = 0
    blocks: int = 0
    exact: bool = False
    at_s: float = float("-inf")


class BlockIndex:
    """The exact index of one router over worker positions. Bounded by `blocks_max` per worker."""

    def __init__(self, blocks_max: int) -> None:
        self._blocks_max = blocks_max
        self._holders = Holders()
        self._known: dict[int, _Known] = {}
        self._exact = 0

    def __len__(self) -> int:
        return len(self._holders)

    def apply(self, worker: int, delta: Delta, now: float) -> Applied:
        """Takes over a delta, or says why not; GAP and FULL leave the worker unknown."""
        known = self._known.setdefault(worker, _Known())
        if delta.full:
            self.forget(worker)
            known = self._known[worker] = _Known(exact=True)
            self._exact |= 1 << worker
        elif delta.number <= known.number:
            return Applied.STALE
        elif not known.exact or delta.number != known.number + 1:
            return self._lose(worker, Applied.GAP)
        self._change(known, 1 << worker, delta)
        known.number, known.at_s = delta.number, now
        return Applied.OK if known.blocks <= self._blocks_max else self._lose(worker, Applied.FULL)

    def heard(self, worker: int, number: int, now: float) -> Applied:
        """A frame without changes still says how far the worker is, and that the view is fresh."""
        known = self._known.get(worker)
        if known is None or not known.exact or number > known.number:
            return self._lose(worker, Applied.GAP)
        known.at_s = max(known.at_s, now)
        return Applied.OK

    def age_s(self, worker: int, now: float) -> float:
        """How old the view of a worker is; infinite while it is unknown."""
        return now - self.known_at(worker)

    def known_at(self, worker: int) -> float:
        """When a worker last said how far it is; minus infinity while its part is unknown."""
        known = self._known.get(worker)
        return known.at_s if known is not None and known.exact else float("-inf")

    def blocks_of(self, worker: int) -> int:
        known = self._known.get(worker)
        return known.blocks if known else 0

    def forget(self, worker: int) -> None:
        """The worker is gone, or started anew."""
        known = self._known.pop(worker, None)
        self._exact &= ~(1 << worker)
        if known is not None and known.blocks:
            self._holders.drop_worker(1 << worker)

    def match(self, blocks: Sequence[int], among: int = -1) -> Levels:
        """How much of a prompt the known workers of a mask hold."""
        return self._holders.levels(blocks, self._exact & among)

    def _lose(self, worker: int, why: Applied) -> Applied:
        self.forget(worker)
        return why

    def _change(self, known: _Known, bit: int, delta: Delta) -> None:
        holders = self._holders
        known.blocks += sum(holders.add(key, bit) for key in delta.stored)
        known.blocks -= sum(holders.drop(key, bit) for key in delta.removed)


class Shadow:
    """What this router sent where: per worker the blocks most recently sent, a bounded number."""

    def __init__(self, workers: int, blocks_max: int) -> None:
        self._blocks_max = blocks_max
        self._holders = Holders()
        self._recent: list[dict[int, None]] = [{} for _ in range(workers)]

    def sent(self, worker: int, blocks: Iterable[int]) -> None:
        """The worker will hold these blocks; a prompt's tail is forgotten before its head."""
        while worker >= len(self._recent):
            self._recent.append({})
        recent, bit = self._recent[worker], 1 << worker
        for block in reversed(tuple(blocks)):
            if block in recent:
                del recent[block]
            else:
                self._holders.add(block, bit)
            recent[block] = None
        while len(recent) > self._blocks_max:
            oldest = next(iter(recent))
            del recent[oldest]
            self._holders.drop(oldest, bit)

    def forget(self, worker: int) -> None:
        """The worker is gone, or started anew."""
        if worker >= len(self._recent):
            return
        for block in self._recent[worker]:
            self._holders.drop(block, 1 << worker)
        self._recent[worker] = {}

    def match(self, blocks: Sequence[int]) -> Levels:
        """How much of a prompt each worker should hold."""
        return self._holders.levels(blocks, (1 << len(self._recent)) - 1)
