"""What a router keeps back, in which order it lets go, and when a request changes its worker.

Work that is still here can move, work in a worker's queue cannot. So a worker gets no more than a
bounded amount of work ahead, and each time something changes the kept requests are planned anew,
which is also the rebalancing: a request moves when another candidate has become cheaper. The plan
admits requests by deadline; where one would come too late, the one with the most work on that
worker is put off (Moore and Hodgson's rule for the fewest late jobs: longest hit first, but only
past saturation). What is late already goes where it costs least work, and gets every tenth place,
so that it never starves. The caller supplies queues, a way to choose, and the time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

_PLANNED_MAX = 32
"""Requests planned at once; more than these would be late anyway."""
_LATE_EVERY = 10
"""Every so many requests the longest waiting late one goes first."""


@dataclass(frozen=True, slots=True)
class Kept:
    """One request in the router's queue. `number` names it and orders equals."""

    number: int
    due_s: float
    """When its first token was promised, minus what is not prefill."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a request would go now, and the work that it brings."""

    worker: int
    work_s: float


_T = TypeVar("_T", bound=Kept)
Chooser = Callable[[_T, Sequence[float]], Place | None]
"""The place of a request given the queues in seconds, planned work included."""


@dataclass(slots=True)
class _Planned(Generic[_T]):
    kept: _T
    place: Place


class WaitingRoom(Generic[_T]):
    """The queue of one router over worker positions. `ahead_s` is the bound on work sent ahead."""

    def __init__(self, ahead_s: float) -> None:
        self._ahead_s = ahead_s
        self._kept: dict[int, _T] = {}
        self._since_late = 0

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, kept: _T) -> None:
        """One more request to place."""
        self._kept[kept.number] = kept

    def remove(self, number: int) -> _T | None:
        """Its client left, or it is being asked about."""
        return self._kept.pop(number, None)

    def change(self, changed: Callable[[_T], _T]) -> None:
        """Every kept request as it is from now on."""
        self._kept = {number: changed(kept) for number, kept in self._kept.items()}

    def release(
        self, queue_s: Sequence[float], open_mask: int, now: float, choose: Chooser[_T]
    ) -> list[tuple[_T, Place]]:
        """The requests to send now, in order, and where; they are no longer kept."""
        queues = list(queue_s)
        if not self._kept or not self._room(queues, open_mask):
            return []
        workers = open_mask.bit_count()
        sent = [(p.kept, p.place) for p in self._plan(queues, workers, now, choose)]
        for kept, _ in sent:
            del self._kept[kept.number]
        return sent

    def next_room_s(self, queue_s: Sequence[float], open_mask: int) -> float | None:
        """In how many seconds the next worker will have room; None when nothing is kept."""
        waits = [q - self._ahead_s for w, q in enumerate(queue_s) if open_mask >> w & 1]
        busy = [wait for wait in waits if wait >= 0]
        return min(busy) if busy and self._kept else None

    def _room(self, queues: Sequence[float], open_mask: int) -> bool:
        return any(q <= self._ahead_s for w, q in enumerate(queues) if open_mask >> w & 1)

    def _plan(
        self, queues: list[float], workers: int, now: float, choose: Chooser[_T]
    ) -> list[_Planned[_T]]:
        """List scheduling: each in order takes its place; who finds room there is sent."""
        sent: list[_Planned[_T]] = []
        real, blocked = list(queues), set[int]()
        for kept in self._order(queues, now, choose):
            place = choose(kept, queues)
            if place is None:
                continue
            worker = place.worker
            if worker not in blocked and real[worker] <= self._ahead_s:
                sent.append(_Planned(kept, place))
                real[worker] += place.work_s
                self._count(late=now > kept.due_s)
            else:
                blocked.add(worker)
                if len(blocked) == workers:
                    break
            queues[worker] += place.work_s
        return sent

    def _count(self, *, late: bool) -> None:
        self._since_late = 0 if late else self._since_late + 1

    def _order(self, queues: Sequence[float], now: float, choose: Chooser[_T]) -> list[_T]:
        """In time by deadline, then those that were put off, then the late by their wait."""
        waiting = sorted(self._kept.values(), key=lambda k: (k.due_s, k.number))
        late = [k for k in waiting if k.due_s <= now]
        hopeful = [k for k in waiting if k.due_s > now]
        in_time, put_off = self._in_time(hopeful[:_PLANNED_MAX], list(queues), now, choose)
        first: list[_T] = []
        if late and self._since_late >= _LATE_EVERY:
            first, late = late[:1], late[1:]
        return [*first, *in_time, *put_off, *hopeful[_PLANNED_MAX:], *late[:_PLANNED_MAX]]

    def _in_time(
        self, waiting: Sequence[_T], queues: list[float], now: float, choose: Chooser[_T]
    ) -> tuple[list[_T], list[_T]]:
        """Moore and Hodgson's rule on each worker, the choice of worker included."""
        lines: dict[int, list[_Planned[_T]]] = {}
        put_off: list[_T] = []
        for kept in waiting:
            place = choose(kept, queues)
            if place is None:
                continue
            if now + place.work_s > kept.due_s:
                # Too late even on an idle worker: it must not push out others.
                put_off.append(kept)
                continue
            line = lines.setdefault(place.worker, [])
            line.append(_Planned(kept, place))
            queues[place.worker] += place.work_s
            if now + queues[place.worker] > kept.due_s:
                longest = max(line, key=lambda p: p.place.work_s)
                line.remove(longest)
                queues[place.worker] -= longest.place.work_s
                put_off.append(longest.kept)
        kept_back = {k.number for k in put_off}
        return [k for k in waiting if k.number not in kept_back], put_off
