"""Time as an argument.

A clock counts monotonic seconds of one process. Its readings mean nothing on another clock, so
what travels between processes is a duration, and each side makes its own `Deadline` of it. Wall
clock time appears in log lines only.
"""

import math
import time
from dataclasses import dataclass
from typing import Protocol, Self


class Clock(Protocol):
    """A source of monotonic time."""

    def now(self) -> float:
        """Seconds since an arbitrary moment; never decreases."""
        ...


class MonotonicClock:
    """The clock of this process."""

    def now(self) -> float:
        """Seconds of `time.monotonic`."""
        return time.monotonic()


class ManualClock:
    """A clock that moves only when told to, for tests and simulations."""

    def __init__(self, start_s: float = 0.0) -> None:
        self._now_s = start_s

    def now(self) -> float:
        """Seconds, as last set."""
        return self._now_s

    def advance(self, seconds: float) -> None:
        """Moves forward. Raises ValueError for a step back."""
        if not seconds >= 0:
            raise ValueError(f"a clock cannot move by {seconds} s")
        self._now_s += seconds


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on one clock, in that clock's seconds. Raises ValueError for NaN."""

    expires_at: float

    def __post_init__(self) -> None:
        if math.isnan(self.expires_at):
            raise ValueError("a deadline needs a moment, not NaN")

    @classmethod
    def after(cls, now: float, duration_s: float) -> Self:
        """The deadline that a received duration means on the clock that reads `now`."""
        return cls(now + duration_s)

    def remaining_s(self, now: float) -> float:
        """Seconds left, 0 once it has passed. This is what travels to another process."""
        return max(0.0, self.expires_at - now)

    def expired(self, now: float) -> bool:
        """Whether the moment has come."""
        return now >= self.expires_at
