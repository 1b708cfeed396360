"""What a worker's word on itself means for membership. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from baton.errors import BatonError, Reason
from baton.ids import WorkerId
from baton.messages import WorkerInfo, WorkerState
from cluster.jobs import Failure, failure_of
from cluster.membership import (
    Event,
    Row,
    WorkerComplained,
    WorkerDied,
    WorkerProgressed,
    WorkerReady,
    WorkerWarming,
)
from cluster.ports import StartProgress

_GRACE_S = 5.0
"""A worker keeps the time for its first requests itself; one that does not is no longer asked."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads the words of all workers of one configuration."""

    digest: str
    warm_timeout_s: float
    """0 = workers make no first requests."""
    found: frozenset[tuple[WorkerId, int]] = frozenset()
    """Starts that an earlier controller left: they may be of an earlier configuration."""

    def events(self, row: Row, progress: StartProgress, now: float) -> tuple[Event, ...]:
        """What has become of this row."""
        name = (row.worker_id, row.incarnation)
        if progress.error is not None or not progress.alive:
            return (died(*name, failure_of(progress.error), now),)
        if progress.ready is None:
            starting = row.state is WorkerState.STARTING
            return (WorkerProgressed(*name, progress.phase, now),) if starting else ()
        if progress.ready.config_digest != self.digest and name not in self.found:
            error = BatonError(Reason.CONFIG_MISMATCH, "it runs with another configuration")
            return (died(*name, error, now),)
        if row.state is WorkerState.READY:
            return (WorkerComplained(*name, progress.accused, progress.worn_out),)
        return self._up(row, progress.ready, progress.warmed, now)

    def _up(self, row: Row, info: WorkerInfo, warmed: str | None, now: float) -> tuple[Event, ...]:
        # Whoever was found may serve: it does not leave the routers for first requests.
        found = (row.worker_id, row.incarnation) in self.found
        if not self.warm_timeout_s or warmed is not None or found:
            return (WorkerReady(info, now, warmed or ""),)
        if row.state is WorkerState.STARTING:
            return (WorkerWarming(info, now),)
        if now - row.since > self.warm_timeout_s + _GRACE_S:
            return (WorkerReady(info, now, f"not warmed within {self.warm_timeout_s:g} s"),)
        return ()


def died(worker_id: WorkerId, incarnation: int, error: Failure, now: float) -> WorkerDied:
    """It is given up because of this."""
    return WorkerDied(worker_id, incarnation, error.message, now, error.to_wire())
