"""What a soak is made of, what it found, and whether that is good."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

_STARTED = time.monotonic()
WRITE_DEADLINE_S = 1.0
ABORT_TARGET_S = 0.2


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything."""

    transports: tuple[str | None, ...]
    requests: tuple[int, ...]
    """Of each stretch of random requests; between two of them lie trials."""
    users: int
    abort_moments: tuple[float, ...]
    """Seconds after the request; negative: after decode's first token."""

    def of(self, requests: int) -> Size:
        """The same with about so many random requests."""
        share = requests / (sum(self.requests) * len(self.transports))
        return replace(self, requests=tuple(round(n * share) for n in self.requests))


QUICK = Size((None,), (150,), 8, (0.0, 0.06, 0.15, 0.25, -1.0, 0.1, 0.2, -1.0))
FULL = Size(
    (None, "tcp"),
    (420, 400, 400, 320),
    8,
    (0.0, 0.03, 0.06, 0.09, 0.12, 0.15, 0.18, 0.21, 0.24, 0.27, 0.3, 0.33, -1.0, -1.0, -1.0),
)


@dataclass
class Result:
    """Figures over all transports."""

    seed: int
    ends: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    stories: list[str] = field(default_factory=list)
    worst_reclaim_s: float = 0.0
    worst_abort_reclaim_s: float = 0.0
    worst_busy_abort_reclaim_s: float = 0.0
    chunk_s: float = 0.0
    """One step of prefill, which nothing can interrupt."""
    left: list[str] = field(default_factory=list)
    """Processes and shared memory that outlived their workers."""

    def line(self, seconds: float) -> dict[str, Any]:
        """As it is printed."""
        ends, counts = self.ends, self.counts
        return {
            "requests": sum(ends.values()),
            "finished": ends["finished"],
            "typed_errors": ends["typed_error"],
            "cancelled": ends["cancelled"],
            "deadlines": ends["deadline"],
            "recomputed": counts.pop("recomputed", 0),
            **{f: counts.pop(f, 0) for f in FAILURES if f not in ("hung", "untyped")},
            "hung": ends["hung"],
            "untyped": ends["untyped"],
            "worst_reclaim_s": round(self.worst_reclaim_s, 3),
            "worst_abort_reclaim_s": round(self.worst_abort_reclaim_s, 3),
            "worst_busy_abort_reclaim_s": round(self.worst_busy_abort_reclaim_s, 3),
            "chunk_s": round(self.chunk_s, 3),
            "seed": self.seed,
            **dict(sorted(counts.items())),
            "left": self.left,
            "seconds": round(seconds, 1),
        }


FAILURES = (
    "broken",
    "wrong",
    "leaked_blocks",
    "fence_broken",
    "blocks_changed",
    "engines_lost",
    "hung",
    "untyped",
)


def is_good(line: dict[str, Any]) -> bool:
    """Whether nothing happened that must not."""
    slow = line["worst_reclaim_s"] > 2 * WRITE_DEADLINE_S
    slow_abort = line["worst_abort_reclaim_s"] > ABORT_TARGET_S
    return not (slow or slow_abort or line["left"] or any(line[f] for f in FAILURES))


def say(text: str) -> None:
    """News for whoever watches."""
    print(f"{seconds():6.1f} s  {text}", flush=True)


def seconds() -> float:
    """Since the start."""
    return time.monotonic() - _STARTED
