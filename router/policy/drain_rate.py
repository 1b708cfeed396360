"""How fast requests leave, in tokens of KV per second, with forgetting.

Pure: time comes as readings of one clock.
"""

from __future__ import annotations

import math

MEMORY_S = 10.0
WAIT_MAX_S = 60.0


class DrainRate:
    """Tokens that left lately."""

    def __init__(self) -> None:
        self._tokens = 0.0
        self._at = 0.0

    def went(self, tokens: float, now: float) -> None:
        """So many tokens of KV are free again."""
        self._forget(now)
        self._tokens += tokens

    def seconds(self, tokens: float, now: float) -> float:
        """Until so many more are free, at most WAIT_MAX_S."""
        self._forget(now)
        rate = self._tokens / MEMORY_S
        return min(tokens / rate, WAIT_MAX_S) if rate > 0 else WAIT_MAX_S

    def _forget(self, now: float) -> None:
        self._tokens *= math.exp(-max(now - self._at, 0.0) / MEMORY_S)
        self._at = now
