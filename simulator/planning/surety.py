"""How sure an attained share is: a block bootstrap over the trace, and over seeds.

Requests that miss come in bursts, so whole stretches of the trace are drawn with replacement, not
single requests (moving blocks, Kuensch 1989). Each draw takes one of the seeds.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

_DRAWS = 400
_BLOCKS = 24
_TAIL = 0.05


@dataclass(frozen=True, slots=True)
class Surety:
    """The mean over seeds, and the interval that holds nine in ten draws."""

    mean: float
    low: float
    high: float


def surety(kept_by_seed: Sequence[Sequence[bool]]) -> Surety:
    """Of one cluster, from whether each request was served well, in order of arrival, by seed.

    Raises ValueError without requests.
    """
    if not kept_by_seed or not all(kept_by_seed):
        raise ValueError("nothing was measured")
    chance = random.Random(0)
    drawn = sorted(_draw(chance.choice(kept_by_seed), chance) for _ in range(_DRAWS))
    tail = int(_DRAWS * _TAIL)
    mean = statistics.fmean(statistics.fmean(kept) for kept in kept_by_seed)
    return Surety(mean, min(drawn[tail], mean), max(drawn[-1 - tail], mean))


def _draw(kept: Sequence[bool], chance: random.Random) -> float:
    size = max(len(kept) // _BLOCKS, 1)
    starts = [chance.randrange(len(kept) - size + 1) for _ in range(len(kept) // size)]
    return sum(sum(kept[s : s + size]) for s in starts) / (size * len(starts))
