"""Seconds that a benchmark may take; what does not fit is left out and counted, not waited for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import takewhile
from typing import TypeVar

_T = TypeVar("_T")


class Budget:
    """A number of seconds from now. `clock` counts seconds from anywhere."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ends_at = clock() + seconds

    @property
    def left_s(self) -> float:
        """Negative when it is overdrawn."""
        return self._ends_at - self._clock()

    def part(self, seconds: float) -> Budget:
        """So many of its seconds, or what is left of them."""
        return Budget(min(seconds, self.left_s), self._clock)

    def share(self, of: int) -> Budget:
        """An equal share of what is left for each of so many that are still to come."""
        return Budget(self.left_s / of, self._clock)

    def allows(self, seconds: float) -> bool:
        """Whether something that takes so long would fit."""
        return seconds <= self.left_s

    def while_any_is_left(self, things: Iterable[_T]) -> Iterator[_T]:
        """The things, until the time is over."""
        return takewhile(lambda _: self.left_s > 0, things)


def turns(rounds: dict[int, int], budget: Budget) -> Iterator[tuple[int, int]]:
    """Number of the round and length of the prompt, for as many rounds as each length is to have.

    Every length comes once before any comes twice. One that would not fit by what it took last
    time, or by what a shorter one took if it is new, is left out. The caller does what a turn
    stands for before it takes the next one.
    """
    took_s: dict[int, float] = {}
    for turn in range(max(rounds.values())):
        for length in sorted(n for n in rounds if rounds[n] > turn):
            if budget.allows(_expected_s(length, took_s)):
                before_s = budget.left_s
                yield turn, length
                took_s[length] = before_s - budget.left_s


def _expected_s(length: int, took_s: dict[int, float]) -> float:
    known = max((n for n in took_s if n <= length), default=None)
    # Attention makes it grow faster than the length, though not as fast as its square.
    return 0.0 if known is None else took_s[known] * (length / known) ** 1.5
