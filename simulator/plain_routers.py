"""Two routing rules without ambition: for tests, for speed measurements, and as a floor."""

from __future__ import annotations

from simulator.plugs import Choice, View
from simulator.traces.request import Request


class InTurn:
    """Every worker in its turn."""

    def __init__(self, first: int = 0) -> None:
        self._count = first

    def choose(self, request: Request, view: View, now: float) -> Choice | None:
        """The next of each pool."""
        prefill, decode = view.prefill, view.decode
        if not (prefill and decode):
            return None
        number, self._count = self._count, self._count + 1
        return Choice(
            prefill[number % len(prefill)].worker_id, decode[number % len(decode)].worker_id
        )


class LeastWork:
    """The prefill worker with the fewest tokens to compute, this request's uncached ones included;
    the decode worker with the least context. Ties go to those who come first."""

    def choose(self, request: Request, view: View, now: float) -> Choice | None:
        """The least of each pool."""
        prefill, decode = view.prefill, view.decode
        if not (prefill and decode):
            return None
        source = min(
            prefill,
            key=lambda w: w.queued_tokens + w.pending_tokens - w.cached_tokens(request),
        )
        target = min(decode, key=lambda w: (w.kv_tokens + w.pending_tokens, w.batch))
        return Choice(source.worker_id, target.worker_id)
