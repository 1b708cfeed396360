"""The last minutes of one router: totals at regular moments, and what was measured between them.

Pure and bounded: so many moments, each of one size.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from router.ui import figures
from router.ui.figures import NOTHING, Buckets, Figures

STEP_S = 5.0
POINTS_MAX = 120
WINDOW_S = 60.0
"""Each percentile is of what came in so many seconds before its moment."""
RATE_S = 10.0
"""Each rate is the mean over so many seconds before its moment, or a few more."""
_FINISHED = "finished"


@dataclass(frozen=True, slots=True)
class Totals:
    """Since the router began, at one moment of its clock."""

    at_s: float
    ttft: Buckets = NOTHING
    tpot: Buckets = NOTHING
    finished: float = 0.0
    failed: float = 0.0
    """Ended otherwise."""
    refused: float = 0.0


@dataclass(frozen=True, slots=True)
class Latency:
    """Percentiles in seconds; None where nothing came."""

    p50: float | None
    p90: float | None
    p99: float | None
    count: int


@dataclass(frozen=True, slots=True)
class Point:
    """What was measured up to one moment. Rates per second."""

    at_s: float
    ttft: Latency
    tpot: Latency
    finished: float
    failed: float
    refused: float


def totals_of(found: Figures, at_s: float) -> Totals:
    """The totals in one reading of the metrics."""
    ended = found.by(figures.REQUESTS, "outcome")
    finished = ended.get(_FINISHED, 0.0)
    return Totals(
        at_s,
        found.buckets(figures.TTFT),
        found.buckets(figures.TPOT),
        finished,
        sum(ended.values()) - finished,
        found.total(figures.REFUSALS),
    )


class History:
    """Keeps totals of the last window, and the points made of those that left it."""

    def __init__(self) -> None:
        self._totals: deque[Totals] = deque(maxlen=int(WINDOW_S / STEP_S) + 1)
        self._points: deque[Point] = deque(maxlen=POINTS_MAX)

    def due(self, now: float) -> bool:
        """Whether it is time for another moment."""
        return not self._totals or now - self._totals[-1].at_s >= STEP_S

    def note(self, totals: Totals) -> None:
        """Another moment. Totals that fell are those of other workers than before."""
        self._points.append(self.point(totals))
        self._totals.append(totals)

    def point(self, latest: Totals) -> Point:
        """What was measured up to `latest`, which is not kept."""
        window = self._before(latest, WINDOW_S)
        lately = self._before(latest, RATE_S)
        over_s = latest.at_s - lately.at_s
        rates = (
            max(getattr(latest, name) - getattr(lately, name), 0.0) / over_s if over_s > 0 else 0.0
            for name in ("finished", "failed", "refused")
        )
        return Point(
            latest.at_s,
            latency(latest.ttft.since(window.ttft)),
            latency(latest.tpot.since(window.tpot)),
            *rates,
        )

    def __iter__(self) -> Iterator[Point]:
        """The points, the oldest first."""
        return iter(self._points)

    def _before(self, latest: Totals, seconds: float) -> Totals:
        """The youngest totals at least so old, else the oldest there are."""
        old = [t for t in self._totals if t.at_s <= latest.at_s - seconds]
        return old[-1] if old else next(iter(self._totals), latest)


def latency(buckets: Buckets) -> Latency:
    """The percentiles that are shown."""
    p50, p90, p99 = map(buckets.quantile, (0.5, 0.9, 0.99))
    return Latency(p50, p90, p99, round(buckets.count))
