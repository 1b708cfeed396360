"""Sums with forgetting: what was done lately, and how fast requests leave.

Pure: time comes as readings of one clock.
"""

from __future__ import annotations

import math

MEMORY_S = 10.0
WAIT_MAX_S = 60.0


class Lately:
    """A sum of which a share of 1/e is left after MEMORY_S seconds."""

    def __init__(self) -> None:
        self._sum = 0.0
        self._at = 0.0

    def add(self, amount: float, now: float) -> None:
        """So much more."""
        self._sum = self.amount(now) + amount

    def amount(self, now: float) -> float:
        """What is left now; in a steady flow that of MEMORY_S seconds."""
        self._sum *= math.exp(-max(now - self._at, 0.0) / MEMORY_S)
        self._at = now
        return self._sum


class DrainRate:
    """Tokens of KV that left lately."""

    def __init__(self) -> None:
        self._tokens = Lately()

    def went(self, tokens: float, now: float) -> None:
        """So many tokens of KV are free again."""
        self._tokens.add(tokens, now)

    def seconds(self, tokens: float, now: float) -> float:
        """Until so many more are free, at most WAIT_MAX_S."""
        rate = self._tokens.amount(now) / MEMORY_S
        return min(tokens / rate, WAIT_MAX_S) if rate > 0 else WAIT_MAX_S
