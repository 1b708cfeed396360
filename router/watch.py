"""Which workers are silent, and which are lost too often.

A worker that says nothing is suspected first and taken for lost later; one that is lost again and
again is left alone for a while that doubles each time. A long time without a loss makes it new.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from baton.ids import WorkerId
from router.registry import Peer

_SUSPECT_SHARE = 0.5
_BACKOFF_S = 1.0
_BACKOFF_MAX_S = 30.0
_FORGIVEN_AFTER_S = 60.0
_FREE_LOSSES = 1
"""Losses that cost nothing: a worker that was restarted once is no worse than a new one."""


class Verdict(StrEnum):
    """What is to be done with a worker now."""

    FINE = "fine"
    SHUN = "shun"
    """It gets nothing new."""
    LOSE = "lose"
    """What it has goes elsewhere."""


@dataclass(slots=True)
class _Record:
    losses: int = 0
    lost_at: float = float("-inf")


class Watch:
    """Owned by one router; bounded by the workers it is told of. Times on the caller's clock."""

    def __init__(self, silence_s: float) -> None:
        self._silence_s = silence_s
        self._records: dict[WorkerId, _Record] = {}
        self._looked_at = float("-inf")
        self._awake_since = float("-inf")

    def begins(self, now: float) -> None:
        """A round of looking at everybody. If it comes late, it was the watcher that stood still,
        and what the workers have said meanwhile is still to be heard."""
        if now - self._looked_at >= _SUSPECT_SHARE * self._silence_s:
            self._awake_since = now
        self._looked_at = now

    def look_at(self, peer: Peer, now: float) -> Verdict:
        """The verdict on a worker; shuns it accordingly."""
        if peer.heard_at is None:
            return Verdict.FINE
        verdict = self.verdict(peer.info.worker_id, peer.heard_at, now)
        peer.shunned = verdict is not Verdict.FINE
        return verdict

    def verdict(self, worker_id: WorkerId, heard_at: float, now: float) -> Verdict:
        """For a worker that is connected, and was last heard at `heard_at`."""
        silent_s = now - max(heard_at, self._awake_since)
        if silent_s >= self._silence_s:
            return Verdict.LOSE
        if silent_s >= _SUSPECT_SHARE * self._silence_s or self._is_left_alone(worker_id, now):
            return Verdict.SHUN
        return Verdict.FINE

    def lost(self, worker_id: WorkerId, now: float) -> None:
        """Its link broke, or it was silent for too long."""
        record = self._records.setdefault(worker_id, _Record())
        if now - record.lost_at > _FORGIVEN_AFTER_S:
            record.losses = 0
        record.losses += 1
        record.lost_at = now

    def keep(self, worker_ids: Iterable[WorkerId]) -> None:
        """These are in the cluster, nobody else."""
        self._records = {w: self._records[w] for w in worker_ids if w in self._records}

    def _is_left_alone(self, worker_id: WorkerId, now: float) -> bool:
        record = self._records.get(worker_id)
        if record is None or record.losses <= _FREE_LOSSES:
            return False
        backoff_s: float = _BACKOFF_S * 2 ** (record.losses - _FREE_LOSSES - 1)
        return 0 <= now - record.lost_at < min(backoff_s, _BACKOFF_MAX_S)
