"""Two independent hash rings over worker ids: where a routing key is at home.

Both candidates of a key follow from the key and the set of ids alone, so any number of routers
agree without talking, and a worker that joins or leaves moves only the arcs beside its points. The
second ring makes the second choice independent of the first (DualMap, arXiv 2602.06502).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from xxhash import xxh64_intdigest

VIRTUAL_NODES = 512
"""Points of a worker on each ring: the arcs of one worker then sum up to 1/n within about 5 %."""
_RINGS = 2


@dataclass(frozen=True, slots=True)
class Ring:
    """Points in order and whose they are, as positions in the list of workers."""

    points: array[int]
    """As plain numbers side by side: a search reads a few cache lines instead of many objects."""
    owners: array[int]
    seed: int

    def start(self, key: bytes) -> int:
        """The index of the first point at or after the key's."""
        points = self.points
        return bisect_left(points, xxh64_intdigest(key, self.seed)) % len(points)


@dataclass(frozen=True, slots=True)
class Rings:
    """The rings of one membership. `workers` gives the positions their meaning; None = nobody."""

    workers: tuple[str | None, ...]
    rings: tuple[Ring, Ring]
    size: int
    """Workers on the rings."""

    def candidates(self, key: int, count: int = 2) -> tuple[int, ...]:
        """Distinct workers in order of preference, as positions; fewer when there are no more."""
        data, wanted = key.to_bytes(8, "little"), min(count, self.size)
        if not wanted:
            return ()
        one, other = self.rings
        at, at_other = one.start(data), other.start(data)
        first, second = one.owners[at], other.owners[at_other]
        if wanted == _RINGS and first != second:
            return first, second
        walks, found = [(one, at), (other, at_other)], list[int]()
        while len(found) < wanted:
            for number, (ring, at) in enumerate(walks):
                if len(found) < wanted:
                    walks[number] = ring, _take(ring.owners, at, found)
        return tuple(found)


def build(workers: Sequence[str], *, seed: int = 0, virtual_nodes: int = VIRTUAL_NODES) -> Rings:
    """The rings of these workers, in whatever order they are given; positions are by name."""
    return at_slots(sorted(set(workers)), seed=seed, virtual_nodes=virtual_nodes)


def at_slots(
    slots: Sequence[str | None], *, seed: int = 0, virtual_nodes: int = VIRTUAL_NODES
) -> Rings:
    """The rings of workers whose positions are the caller's; None where a position is nobody's.

    Which worker a key belongs to does not depend on the positions.
    """
    ids = tuple(slots)
    one, other = (_ring(ids, seed * _RINGS + n, virtual_nodes) for n in range(_RINGS))
    return Rings(ids, (one, other), sum(i is not None for i in ids))


def _ring(ids: tuple[str | None, ...], seed: int, virtual_nodes: int) -> Ring:
    points = sorted(
        (xxh64_intdigest(f"{worker}#{node}", seed), worker, position)
        for position, worker in enumerate(ids)
        if worker is not None
        for node in range(virtual_nodes)
    )
    owners = array("L", (o for *_, o in points))
    return Ring(array("Q", (p for p, *_ in points)), owners, seed)


def _take(owners: Sequence[int], at: int, found: list[int]) -> int:
    """Adds the next owner on the ring that is new; returns where the walk goes on."""
    while owners[at] in found:
        at = (at + 1) % len(owners)
    found.append(owners[at])
    return at
