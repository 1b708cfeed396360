"""What a plan is asked for: promises, and kinds of clusters. Imports nothing that takes time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Promises:
    """Both latencies are promised together, to `share` of all requests (DistServe's goodput)."""

    ttft_s: float
    tpot_s: float
    share: float = 0.9

    def __post_init__(self) -> None:
        if not (0 < self.ttft_s < math.inf and 0 < self.tpot_s < math.inf):
            raise ValueError("ttft and tpot have to be above 0 seconds")
        if not 0 < self.share < 1:
            raise ValueError("the percentile has to be between 0 and 100")


class Kind(StrEnum):
    """What the workers of a cluster do."""

    AGGREGATED = "aggregated"
    """Each computes prompts, in chunks, and answers them."""
    DISAGGREGATED = "disaggregated"
    """Two pools; every prompt moves."""
    MIXED = "mixed"
    """Two pools; the router decides for each request whether it is disaggregated."""
