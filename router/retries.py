"""How many second attempts a router may make, so that a sick cluster is not drowned in them.

A token bucket as in Finagle: each request adds a share of a token, each further attempt takes one.
"""

from __future__ import annotations

RETRIES_PER_REQUEST = 0.2
_BURST = 64.0
"""What may be spent at once, and is there at the start: one worker that dies with a full batch."""


class RetryBudget:
    """Owned by one router."""

    def __init__(self, share: float = RETRIES_PER_REQUEST, burst: float = _BURST) -> None:
        self._share = share
        self._burst = burst
        self._tokens = burst

    def earn(self) -> None:
        """A request came."""
        self._tokens = min(self._tokens + self._share, self._burst)

    def spend(self) -> bool:
        """Whether another attempt may be made; it is then counted."""
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
