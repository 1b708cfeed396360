"""What a run found, and whether that is good. Pure."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from baton.percentile import percentile as nearest_rank
from benchmarks.faults_cells import Cell, Fault, matrix, skipped

_STARTED = time.monotonic()
STORIES_MAX = 40


@dataclass
class Result:
    """Figures over all cells. It crosses processes."""

    quick: bool
    cells: list[str] = field(default_factory=list)
    """Those that were carried out, each once its requests had ended."""
    broken: list[str] = field(default_factory=list)
    """Those that could not be carried out although they should have been, and why."""
    requests: int = 0
    finished: int = 0
    lost: int = 0
    wrong: int = 0
    hung: int = 0
    ties: int = 0
    tokens: int = 0
    typed_errors: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    pauses: dict[str, list[float]] = field(default_factory=dict)
    """Of streams that went on elsewhere, by fault."""
    stalls: dict[str, list[float]] = field(default_factory=dict)
    """Of streams of the victim that went on there, by fault."""
    leaked_blocks: int = 0
    left: list[str] = field(default_factory=list)
    stories: list[str] = field(default_factory=list)
    start_s: float = 0.0

    def tell(self, story: str) -> None:
        """Keep what must not happen, for people."""
        if len(self.stories) < STORIES_MAX:
            self.stories.append(story)
        say(story)

    def paused(self, fault: Fault, seconds: float) -> None:
        """A stream went on elsewhere after so long."""
        self.pauses.setdefault(fault.value, []).append(seconds)

    def stalled(self, fault: Fault, seconds: float) -> None:
        """A stream went on where it was after so long."""
        self.stalls.setdefault(fault.value, []).append(seconds)

    def carried_out(self, cell: Cell) -> None:
        """A cell is over."""
        self.cells.append(str(cell))

    def line(self, took_s: float) -> dict[str, Any]:
        """As it is printed."""
        pauses = list(chain.from_iterable(self.pauses.values()))
        return {
            "cells": len(self.cells),
            "requests": self.requests,
            "finished": self.finished,
            "lost": self.lost,
            "wrong": self.wrong,
            "hung": self.hung,
            "ties": self.ties,
            "typed_errors": dict(sorted(self.typed_errors.items())),
            "resumed_streams": len(pauses),
            "resume_pause_p50_s": rounded(percentile(pauses, 50)),
            "resume_pause_p99_s": rounded(percentile(pauses, 99)),
            "resume_pause_worst_s": rounded(max(pauses, default=None)),
            "resume_pause_by_fault_s": {name: spread(s) for name, s in self.pauses.items()},
            "stall_by_fault_s": {name: spread(s) for name, s in self.stalls.items()},
            "leaked_blocks": self.leaked_blocks,
            "left": self.left,
            **dict(sorted(self.counts.items())),
            "cells_done": self.cells,
            "cells_broken": self.broken,
            "skipped": self._skipped(),
            "start_s": round(self.start_s, 1),
            "seconds": round(took_s, 1),
        }

    def _skipped(self) -> dict[str, list[str]]:
        done = {*self.cells, *(text.partition(":")[0] for text in self.broken)}
        asked = "not in a quick run" if self.quick else "not in this run"
        why: dict[str, list[str]] = {}
        for cell in matrix():
            if str(cell) not in done:
                why.setdefault(skipped(cell) or asked, []).append(str(cell))
        return why


def is_good(line: dict[str, Any]) -> bool:
    """Whether nothing happened that must not."""
    failures = ("lost", "wrong", "hung", "leaked_blocks", "left", "cells_broken")
    return not any(line[name] for name in failures)


def percentile(values: Iterable[float], share: float) -> float | None:
    """The smallest value that `share` percent of them do not exceed; None of none."""
    return nearest_rank(values, share / 100)


def spread(values: Sequence[float]) -> list[float | None]:
    """The middle one, and the worst."""
    return [rounded(percentile(values, 50)), rounded(max(values, default=None))]


def rounded(value: float | None) -> float | None:
    """To milliseconds."""
    return None if value is None else round(value, 3)


def say(text: str) -> None:
    """News for whoever watches."""
    print(f"{seconds():6.1f} s  {text}", file=sys.stderr, flush=True)


def seconds() -> float:
    """Since the start."""
    return time.monotonic() - _STARTED
