"""Which workers are silent, and which are lost too often.

A worker that says nothing is suspected first and taken for lost later; one that is lost again and
again is left alone for a while that doubles each time. A long time without a loss makes it new.

Silence is time in which the watcher could have heard something. A router that stands still, or
hardly keeps up, looks seldom: what the workers have said meanwhile is still to be heard.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from baton.ids import WorkerId
from router.peer import Peer

_SUSPECT_SHARE = 0.5
_LOOK_COUNTS_MAX_S = 0.1
"""Of the time since the last look; twice what passes between two looks of an idle router."""
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


@dataclass(slots=True)
class _Heard:
    at: float
    """Its last word, on the router's clock."""
    watched_s: float
    """How much had been watched when that was noticed."""


class Watch:
    """Owned by one router; bounded by the workers it is told of. Times on the caller's clock."""

    def __init__(self, silence_s: float) -> None:
        self._silence_s = silence_s
        self._records: dict[WorkerId, _Record] = {}
        self._heard: dict[WorkerId, _Heard] = {}
        self._looked_at = float("inf")
        self._watched_s = 0.0

    def begins(self, now: float) -> None:
        """A round of looking at everybody."""
        passed_s = max(now - self._looked_at, 0.0)
        self._watched_s += min(passed_s, _LOOK_COUNTS_MAX_S)
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
        silent_s = self._silent_s(worker_id, heard_at)
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
        kept = set(worker_ids)
        self._records = {w: record for w, record in self._records.items() if w in kept}
        self._heard = {w: heard for w, heard in self._heard.items() if w in kept}

    def _silent_s(self, worker_id: WorkerId, heard_at: float) -> float:
        heard = self._heard.get(worker_id)
        if heard is None or heard.at != heard_at:
            heard = self._heard[worker_id] = _Heard(heard_at, self._watched_s)
        return self._watched_s - heard.watched_s

    def _is_left_alone(self, worker_id: WorkerId, now: float) -> bool:
        record = self._records.get(worker_id)
        if record is None or record.losses <= _FREE_LOSSES:
            return False
        backoff_s: float = _BACKOFF_S * 2 ** (record.losses - _FREE_LOSSES - 1)
        return 0 <= now - record.lost_at < min(backoff_s, _BACKOFF_MAX_S)
