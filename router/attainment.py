"""Which promises a request was kept, and how many were over the last minutes and hours.

Pure: time comes as readings of one clock, in seconds. Memory is bounded: a window is a fixed number
of counts over its parts, of which the oldest is left out as a whole.

What counts:
- A request that was let in and ends well counts by its times. An answer of one token has no time
  per output token, and keeps that promise.
- One that fails for a fault of the cluster counts as not kept, in everything.
- One whose client leaves, or whose deadline passes, counts with what it got until then. Before the
  first token it does not count, unless its deadline was later than the promised first token.
- One that fails for a fault of its own (a parameter that an engine refuses) does not count.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

from baton.errors import RULES, Reason
from baton.settings import SloSettings

WINDOWS_S = {"5m": 300.0, "30m": 1800.0, "1h": 3600.0, "6h": 21600.0}
"""By the name that metrics have for them."""
PARTS = 60
_CUT_SHORT = (Reason.CANCELLED, Reason.DEADLINE_EXCEEDED)
FAULTS = frozenset(
    reason
    for reason, rule in RULES.items()
    if (rule.http_status >= 500 or rule.retryable) and reason not in _CUT_SHORT
)
"""Of the cluster, where they end a request that was let in."""


class Ending(NamedTuple):
    """One request's end. `reason` is None when it ended well."""

    reason: Reason | None
    lasted_s: float
    """From taking it to its end."""
    ttft_s: float | None
    """From taking it to its first token; None = none came."""
    tokens: int
    """Of its answer, that came."""

    @property
    def tpot_s(self) -> float | None:
        """The mean time per token after the first; None where there is none."""
        if self.ttft_s is None or self.tokens < 2:
            return None
        return (self.lasted_s - self.ttft_s) / (self.tokens - 1)


class Verdict(NamedTuple):
    """Whether each promise was kept; None = does not count."""

    ttft: bool | None
    tpot: bool | None
    both: bool | None


BROKEN = Verdict(ttft=False, tpot=False, both=False)
UNCOUNTED = Verdict(None, None, None)
PROMISES = Verdict._fields


def judge(slo: SloSettings, prompt_tokens: int, end: Ending) -> Verdict:
    """What one request was kept of this promise."""
    if end.reason in FAULTS:
        return BROKEN
    if end.reason is not None and end.reason not in _CUT_SHORT:
        return UNCOUNTED
    promised_s = slo.ttft_of(prompt_tokens)
    if end.ttft_s is None and end.reason is not None:
        late = end.reason is Reason.DEADLINE_EXCEEDED and end.lasted_s > promised_s
        return Verdict(ttft=False, tpot=None, both=False) if late else UNCOUNTED
    # Without news of its first token the whole answer came at once.
    ttft = (end.lasted_s if end.ttft_s is None else end.ttft_s) <= promised_s
    tpot = end.tpot_s is None or end.tpot_s <= slo.tpot_s
    return Verdict(ttft, tpot, ttft and tpot)


@dataclass(slots=True)
class _Part:
    """How many requests of a part of a window were kept what."""

    number: int
    counts: dict[Verdict, int]


class _Window:
    def __init__(self, seconds: float) -> None:
        self._part_s = seconds / PARTS
        self._parts: deque[_Part] = deque(maxlen=PARTS)

    def add(self, verdict: Verdict, now: float) -> None:
        counts = self._part(now).counts
        counts[verdict] = counts.get(verdict, 0) + 1

    def share(self, promise: int, now: float) -> float | None:
        first = int(now / self._part_s) - PARTS
        inside = [part.counts.items() for part in self._parts if part.number > first]
        found = [(verdict[promise], n) for counts in inside for verdict, n in counts]
        asked = sum(n for met, n in found if met is not None)
        return sum(n for met, n in found if met) / asked if asked else None

    def _part(self, now: float) -> _Part:
        number = int(now / self._part_s)
        # A clock that jumps back adds to the last part.
        if not self._parts or number > self._parts[-1].number:
            self._parts.append(_Part(number, {}))
        return self._parts[-1]


class Attainment:
    """Of the requests of one class, over each of `WINDOWS_S`."""

    def __init__(self) -> None:
        self._windows = {name: _Window(seconds) for name, seconds in WINDOWS_S.items()}

    def add(self, verdict: Verdict, now: float) -> None:
        """One more request has ended."""
        for window in self._windows.values():
            window.add(verdict, now)

    def share(self, window: str, promise: str, now: float) -> float | None:
        """Of those that counted, the part that was kept this promise; None = there were none."""
        return self._windows[window].share(PROMISES.index(promise), now)


def burn(attained: float, objective: float) -> float:
    """How fast the error budget goes: 1 = just as fast as it may, 0 = not at all."""
    return (1 - attained) / (1 - objective)
