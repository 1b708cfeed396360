"""One leg on a worker."""

from __future__ import annotations

from dataclasses import dataclass

from baton.messages import LegTimes
from engine.leg_times import leg_times
from engine.link import Link
from engine.ports import Moments
from engine.role import Role


@dataclass(slots=True)
class Leg:
    """Whose it is and how far it is. `taken_at` in seconds of the worker's clock."""

    link: Link
    role: Role
    prompt_tokens: int
    taken_at: float
    had_output: bool = False

    def times(self, found: Moments, now: float) -> LegTimes:
        """Where its time until now went, when its first output has come."""
        return leg_times(self.taken_at, found, now)
