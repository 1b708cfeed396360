"""How long what is being written will still take, by what was written lately. Pure."""

from __future__ import annotations

_KEPT = 0.95
"""Of what is remembered, at each further write: a link may change its pace. So the last twenty or
so count."""


class Outflow:
    """The pace at which writes leave. Only time with a write under way counts."""

    def __init__(self) -> None:
        self._done = 0.0
        self._writing_s = 0.0
        self._since = 0.0

    def begins(self, now: float) -> None:
        """A write begins where none was under way."""
        self._since = now

    def done(self, size: int, now: float) -> None:
        """A write of so many bytes is over."""
        self._done = _KEPT * self._done + size
        self._writing_s = _KEPT * self._writing_s + self._gone_s(now)
        self._since = now

    def failed(self, now: float) -> None:
        """A write is over that says nothing about the pace."""
        self._since = now

    def seconds_for(self, size: int, now: float) -> float:
        """Until so many bytes have left; 0 where nothing was written yet to tell by.

        While nothing leaves it grows with the time.
        """
        if self._done <= 0:
            return 0.0
        return size * (self._writing_s + self._gone_s(now)) / self._done

    def _gone_s(self, now: float) -> float:
        return max(now - self._since, 0.0)
