"""When the machine under the machine took its cores away.

On a virtual machine of a busy host every core stands still now and then: 4 to 15 ms, twenty times
a second, and up to 100 ms at once were seen on two cores; the kernel counted 6 % as stolen. What a
benchmark says of a moment in which nothing could run is not about what it measures. One process per
core watches, at a priority that no other process of the machine is above: if it wakes late, nobody
else ran on that core either.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path

LATE_S = 0.001
"""Waking later than this is not the kernel's own work."""
_EACH_S = 0.001
_PRIORITY = 50
_ROOT = Path(__file__).resolve().parent.parent

Span = tuple[float, float]
"""From when until when a core stood still, by the monotonic clock, in seconds."""


class Stolen:
    """What the watchers saw; complete once `watched` is over."""

    def __init__(self, spans: Iterable[Span] = (), *, watching: bool = False) -> None:
        self.watching = watching
        """False where this user may not set real-time priorities: then nothing is known."""
        self.hold(spans)

    def hold(self, spans: Iterable[Span]) -> None:
        """These and no others, in any order."""
        ordered = sorted(spans)
        self._starts = [first for first, _ in ordered]
        # The latest end of a span and all before it: spans of several cores overlap.
        self._ends = list(accumulate((last for _, last in ordered), max))
        self.total_s = sum(last - first for first, last in ordered)
        """What was taken of all cores together."""

    def touches(self, start: float, end: float) -> bool:
        """Whether any core stood still at any time between two moments."""
        before = bisect_left(self._starts, end)
        return before > 0 and start < self._ends[before - 1]


@contextmanager
def watched() -> Iterator[Stolen]:
    """Watches every core that this process may use."""
    stolen = Stolen()
    command = [sys.executable, "-m", "benchmarks.stolen"]
    watchers = [
        subprocess.Popen(
            [*command, str(core)],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for core in sorted(os.sched_getaffinity(0))
    ]
    try:
        yield stolen
    finally:
        # The end of its input is what ends a watcher.
        answers = [json.loads(watcher.communicate()[0] or "null") for watcher in watchers]
    stolen.watching = None not in answers
    stolen.hold((first, last) for answer in answers for first, last in answer or ())


def _watch(core: int) -> Sequence[Span] | None:
    try:
        os.sched_setaffinity(0, {core})
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_PRIORITY))
    except PermissionError:
        return None
    spans = []
    before = time.monotonic()
    while not select.select([sys.stdin], [], [], _EACH_S)[0]:
        now = time.monotonic()
        due = before + _EACH_S
        if now - due > LATE_S:
            spans.append((due, now))
        before = now
    return spans


if __name__ == "__main__":
    print(json.dumps(_watch(int(sys.argv[1]))))
