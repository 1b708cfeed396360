"""Which workers make up the pools: counts and role changes, turned into places. Pure.

Ids are places and never change, and the highest numbers are the first to go. A worker that changes
its pool keeps its id.
"""

from __future__ import annotations

from collections.abc import Mapping

from baton.ids import WorkerId
from baton.messages import Role
from cluster.supervision import Wanted

_OTHER = {Role.PREFILL: Role.DECODE, Role.DECODE: Role.PREFILL}


def sizes(wanted: Wanted) -> dict[Role, int]:
    """How many workers are to work in each pool."""
    roles = dict(wanted.roles)
    working = [roles.get(worker_id, home) for worker_id, home in wanted.slots()]
    return {role: working.count(role) for role in _OTHER}


def resized(wanted: Wanted, counts: Mapping[Role, int], moves: Mapping[Role, int]) -> Wanted:
    """As many workers in each pool as `counts` says, at least 0.

    `moves`: so many first leave the pool of this role for the other one, as far as there are any.
    """
    places = _Places(wanted)
    for role, number in moves.items():
        for _ in range(min(number, places.size(role))):
            places.move(role)
    for role, count in counts.items():
        while places.size(role) < count:
            places.homes[role] += 1
        while places.size(role) > max(count, 0):
            places.drop(role)
    return places.wanted()


class _Places:
    """Wanted workers that are being rearranged."""

    def __init__(self, wanted: Wanted) -> None:
        self.homes = {Role.PREFILL: wanted.prefill, Role.DECODE: wanted.decode}
        self._away = {worker_id for worker_id, _ in wanted.roles}

    def size(self, role: Role) -> int:
        return self.homes[role] - len(self._gone(role)) + len(self._gone(_OTHER[role]))

    def wanted(self) -> Wanted:
        roles = [(i, _OTHER[home]) for i, home in self._slots() if i in self._away]
        return Wanted(self.homes[Role.PREFILL], self.homes[Role.DECODE], tuple(roles))

    def move(self, role: Role) -> None:
        """One leaves this pool: a guest goes home, or the lowest number goes over."""
        guests = self._gone(_OTHER[role])
        if guests:
            self._away.remove(guests[-1])
        else:
            self._away.add(next(i for i, h in self._slots() if h is role and i not in self._away))

    def drop(self, role: Role) -> None:
        """One of this pool is given up. It is the last of whichever pool it was started for."""
        home = _OTHER[role] if self._gone(_OTHER[role]) else role
        last = next(i for i, h in reversed(self._slots()) if h is home)
        if self._as(last, home) is not role:
            # Somebody else of its home has to take its part.
            other = next(i for i, h in self._slots() if h is home and self._as(i, h) is role)
            self._away ^= {last, other}
        self._away.discard(last)
        self.homes[home] -= 1

    def _as(self, worker_id: WorkerId, home: Role) -> Role:
        return _OTHER[home] if worker_id in self._away else home

    def _gone(self, home: Role) -> list[WorkerId]:
        """Those of this home that work in the other pool."""
        return [i for i, h in self._slots() if h is home and i in self._away]

    def _slots(self) -> tuple[tuple[WorkerId, Role], ...]:
        return Wanted(self.homes[Role.PREFILL], self.homes[Role.DECODE]).slots()
