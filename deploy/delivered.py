"""Whether a worker that takes nothing new has nothing left that anybody waits for."""

from __future__ import annotations

from baton.clock import Clock
from kv_transfer.report import TransferReport

_SETTLED_S = 1.0
"""The engine's last report of its transfers may be half of this old."""
_SENDING = "source."


class Delivered:
    """Legs end when the engine has computed them; their KV may be on its way still."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._idle_since: float | None = None

    def all(self, legs: int, report: TransferReport | None) -> bool:
        """Whether the worker may go. Ask again and again: it needs to see the last leg end."""
        now = self._clock.now()
        if legs:
            self._idle_since = None
            return False
        if report is None:
            # A connector that does not report leaves it to decode to find out.
            return True
        if self._idle_since is None:
            self._idle_since = now
        sending = any(count for end, count in report.tickets.items() if end.startswith(_SENDING))
        return not sending and now - self._idle_since >= _SETTLED_S
