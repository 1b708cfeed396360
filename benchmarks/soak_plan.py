"""What is asked, what goes wrong with it and how it ends: drawn from a seed, pure."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from benchmarks.soak_faults import UNSPOILT, Spoil

_T = TypeVar("_T")

AFTER_MAX_S = 0.5
"""Cancels and deadlines come at most this long after the request: in each of its phases."""
GAP_MAX_S = 0.15
SHARED_SALTS = 3


class Ending(StrEnum):
    """How the client ends a request."""

    WAITED = "waited"
    """It takes the whole answer."""
    CANCEL_BOTH = "cancel_both"
    CANCEL_PREFILL = "cancel_prefill"
    CANCEL_DECODE = "cancel_decode"
    DEADLINE = "deadline"
    """Its time is up, unless it has been answered before."""


class Way(StrEnum):
    """Which workers a request uses."""

    HANDOFF = "handoff"
    SOLO_DECODE = "solo_decode"
    SOLO_PREFILL = "solo_prefill"
    """An ordinary request on the prefill worker: it grows there, and presses on its pool."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One request with its faults."""

    number: int
    question: int
    """Which of the questions is asked."""
    salt: str
    """Equal salts share cached prefixes."""
    way: Way = Way.HANDOFF
    gap_s: float = 0.0
    """Seconds between the two legs; negative: decode's comes first."""
    spoil: Spoil = UNSPOILT
    ending: Ending = Ending.WAITED
    after_s: float = 0.0

    @property
    def is_plain_abort(self) -> bool:
        """Whether it is taken back whole, with nothing in the way of doing that."""
        taken_back = self.ending in (Ending.CANCEL_BOTH, Ending.DEADLINE)
        return taken_back and self.spoil.harmless and self.way is Way.HANDOFF


_ENDINGS = {
    Ending.WAITED: 72,
    Ending.CANCEL_BOTH: 9,
    Ending.CANCEL_PREFILL: 6,
    Ending.CANCEL_DECODE: 6,
    Ending.DEADLINE: 7,
}
_WAYS = {Way.HANDOFF: 88, Way.SOLO_DECODE: 6, Way.SOLO_PREFILL: 6}
_SPOILS = {
    UNSPOILT: 70,
    Spoil(drop=30): 8,
    Spoil(repeat=40): 8,
    Spoil(delay=40): 8,
    Spoil(drop=15, repeat=20, delay=20): 6,
}


def plans(seed: int, questions: int, first: int = 0) -> Iterator[Planned]:
    """Requests without end; each depends on the seed and its own number alone."""
    number = first
    while True:
        yield _planned(random.Random(f"{seed}/{number}"), number, questions)
        number += 1


def _planned(chance: random.Random, number: int, questions: int) -> Planned:
    shared = chance.random() < 0.5
    return Planned(
        number,
        question=chance.randrange(questions),
        salt=f"shared {chance.randrange(SHARED_SALTS)}" if shared else f"own {number}",
        way=_drawn(chance, _WAYS),
        gap_s=chance.choice((0.0, 0.0, 1.0, -1.0)) * chance.uniform(0, GAP_MAX_S),
        spoil=_drawn(chance, _SPOILS),
        ending=_drawn(chance, _ENDINGS),
        after_s=chance.uniform(0, AFTER_MAX_S),
    )


def _drawn(chance: random.Random, weights: Mapping[_T, int]) -> _T:
    (found,) = chance.choices(list(weights), weights=list(weights.values()))
    return found
