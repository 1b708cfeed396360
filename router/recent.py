"""The requests of the last hour as figures, without their prompts: what a plan is checked against.

Bounded: so many requests at most, the latest. Owned by one router.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from router.attainment import Ending
from router.life import FlowState, Prefilled

KEPT_MAX = 10_000
KEPT_S = 3600.0


class Row(NamedTuple):
    """One request that ended well. Times in seconds; `age_s` since it came."""

    age_s: float
    prompt_tokens: int
    cached_tokens: int
    """Of the prompt, as the prefill worker says; 0 for one that was not divided."""
    output_tokens: int
    ttft_s: float
    tpot_s: float | None
    divided: bool
    """Whether its prompt was computed elsewhere."""


class Recent:
    """Remembers what ended."""

    def __init__(self) -> None:
        self._rows: deque[tuple[float, Row]] = deque(maxlen=KEPT_MAX)

    def ended(self, prompt_tokens: int, state: FlowState, end: Ending, now: float) -> None:
        """A request has ended; those that ended badly, or without a first token, are left out."""
        if end.reason is not None or end.ttft_s is None:
            return
        came = [e.event.cached_tokens for e in state.log if isinstance(e.event, Prefilled)]
        divided = state.plan is not None and state.plan.prefill is not None
        row = Row(
            0.0, prompt_tokens, max(came, default=0), end.tokens, end.ttft_s, end.tpot_s, divided
        )
        self._rows.append((now - end.lasted_s, row))

    def rows(self, now: float) -> list[Row]:
        """Those that came within the last hour, in order of arrival."""
        inside = [(at, row) for at, row in self._rows if now - at <= KEPT_S]
        return [row._replace(age_s=now - at) for at, row in sorted(inside, key=lambda r: r[0])]
