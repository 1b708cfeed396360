"""One answer as its client sees it, and how long it paused. Pure."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from baton.errors import BatonError
from baton.ids import RequestId


@dataclass
class Stream:
    """Times are on the monotonic clock, one for each delivery."""

    request_id: RequestId
    tokens: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    broken: list[float] = field(default_factory=list)
    """When the heart asked how far it is, to place it again."""
    error: BatonError | None = None
    refused: bool = False
    """Whether it was never taken."""
    over: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def streams(self) -> bool:
        """Whether tokens have come and more are to come."""
        return bool(self.tokens) and not self.over.is_set()

    def end(self, error: BatonError | None = None) -> None:
        """It is over."""
        self.error = self.error or error
        self.over.set()

    def pause_since(self, moment: float) -> float | None:
        """Of a stream that was placed again after `moment`: from the last token before that to
        the first after it. None if that never happened to its tokens."""
        cut = next((at for at in self.broken if at >= moment), None)
        return None if cut is None else gap_at(self.times, cut)

    def stall_since(self, moment: float) -> float:
        """The longest time between two deliveries that reaches beyond `moment`."""
        return stall_since(self.times, moment)


def gap_at(times: Sequence[float], moment: float) -> float | None:
    """From the last of these times before the moment to the first after it."""
    before = [at for at in times if at <= moment]
    after = [at for at in times if at > moment]
    return after[0] - before[-1] if before and after else None


def stall_since(times: Sequence[float], moment: float) -> float:
    """The longest time between two of these that reaches beyond the moment."""
    gaps = [later - sooner for sooner, later in pairwise(times) if later > moment]
    return max(gaps, default=0.0)
