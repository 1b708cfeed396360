"""Small stable numbers for workers: what masks and lists over a pool are indexed by."""

from __future__ import annotations

from baton.ids import WorkerId


class Slots:
    """A worker keeps its number until it leaves; numbers of those that left are used again."""

    def __init__(self) -> None:
        self._slots: dict[WorkerId, int] = {}
        self._workers: list[WorkerId | None] = []

    def __len__(self) -> int:
        """One more than the highest number ever in use."""
        return len(self._workers)

    def get(self, worker_id: WorkerId) -> int | None:
        """The number of a worker; None when it has none."""
        return self._slots.get(worker_id)

    def worker(self, slot: int) -> WorkerId | None:
        """Whose number it is; None for nobody's, such as of a worker that has left meanwhile."""
        return self._workers[slot] if slot < len(self._workers) else None

    def take(self, worker_id: WorkerId) -> int:
        """The number of a worker, a new one if it has none yet."""
        known = self._slots.get(worker_id)
        if known is not None:
            return known
        if None not in self._workers:
            self._workers.append(None)
        slot = self._workers.index(None)
        self._workers[slot] = worker_id
        self._slots[worker_id] = slot
        return slot

    def free(self, worker_id: WorkerId) -> int | None:
        """The worker has left; the number that was its own."""
        slot = self._slots.pop(worker_id, None)
        if slot is not None:
            self._workers[slot] = None
        return slot
