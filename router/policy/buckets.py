"""A limit per minute: a token bucket that holds one minute's worth.

Pure: time comes as readings of one clock.
"""

from __future__ import annotations

_MINUTE_S = 60.0


class MinuteBucket:
    """`per_minute` 0 = no limit."""

    def __init__(self, per_minute: float) -> None:
        self._size = per_minute
        self._left = per_minute
        self._at = 0.0

    def wait_s(self, amount: float, now: float) -> float:
        """Seconds until so much may be taken; 0 = now. More than a minute's worth needs all."""
        if not self._size:
            return 0.0
        self._fill(now)
        missing = min(amount, self._size) - self._left
        return max(missing, 0.0) * _MINUTE_S / self._size

    def take(self, amount: float, now: float) -> None:
        """It may go below nothing, and is then made up for."""
        if self._size:
            self._fill(now)
            self._left -= amount

    def _fill(self, now: float) -> None:
        # A clock that goes back adds nothing.
        passed_s = max(now - self._at, 0.0)
        self._at = now
        self._left = min(self._left + passed_s * self._size / _MINUTE_S, self._size)
