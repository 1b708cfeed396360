"""The router of all runs in `benchmarks.scaling`: it keeps what no worker could begin with soon.

As in Baton's router, a prefill worker gets a bounded amount of work ahead, and a decode worker no
more than its memory will hold; the rest waits where every worker that becomes ready can take it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from simulator.job import Record
from simulator.plugs import Choice, Refused, Sight, View
from simulator.traces.request import Request

_AHEAD_S = 1.0
_TICK_S = 0.25
_EXPECTED = 0.5
"""Of an answer of typical length, what is kept free for it: others end meanwhile."""


class Patient:
    """First come, first served; the least busy prefill worker, the decode worker with most room."""

    def __init__(self, answer_tokens: int, *, whole: bool = False) -> None:
        self._room = int(answer_tokens * _EXPECTED)
        self._whole = whole
        """Decode workers compute the prompts, too: one pool."""
        self._queue: deque[Request] = deque()
        self._wakes_at_s: float | None = None

    def arrived(
        self, request: Request, view: View, now: float
    ) -> Iterable[tuple[Request, Choice | Refused]]:
        """Joins the queue, from which whoever can begin leaves."""
        self._queue.append(request)
        return self._leaving(view, now)

    def heard(
        self, view: View, now: float, computed: Record | None
    ) -> Iterable[tuple[Request, Choice | Refused]]:
        """The same again."""
        return self._leaving(view, now)

    def wakes_at_s(self) -> float | None:
        """Soon, while anybody waits: memory becomes free without a word."""
        return self._wakes_at_s

    def _leaving(self, view: View, now: float) -> Iterator[tuple[Request, Choice]]:
        while self._queue:
            choice = self._choice(self._queue[0], view)
            if choice is None:
                break
            yield self._queue.popleft(), choice
        self._wakes_at_s = now + _TICK_S if self._queue else None

    def _choice(self, request: Request, view: View) -> Choice | None:
        target = min(view.decode, key=_held, default=None)
        if target is None or _held(target) + request.input_tokens + self._room > target.kv_capacity:
            return None
        if self._whole:
            busy_s = target.queued_work_s
            return Choice(None, target.worker_id) if busy_s < _AHEAD_S else None
        source = min(view.prefill, key=lambda sight: sight.queued_work_s, default=None)
        if source is None or source.queued_work_s >= _AHEAD_S:
            return None
        return Choice(source.worker_id, target.worker_id)


def _held(sight: Sight) -> int:
    return sight.kv_used + sight.kv_promised
