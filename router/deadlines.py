"""Which requests are out of time, without looking at those that are not."""

from __future__ import annotations

import heapq

from baton.ids import RequestId

_SLACK_ENTRIES = 64


class Deadlines:
    """Moments at which requests end, in seconds of the caller's clock.

    Takes space in proportion to the requests that are in it, not to those that ever were.
    """

    def __init__(self) -> None:
        self._at: dict[RequestId, float] = {}
        self._heap: list[tuple[float, RequestId]] = []

    def __len__(self) -> int:
        return len(self._at)

    def add(self, request_id: RequestId, at: float) -> None:
        """Sets the moment of a request."""
        self._at[request_id] = at
        heapq.heappush(self._heap, (at, request_id))

    def discard(self, request_id: RequestId) -> None:
        """Forgets a request, if it is known."""
        self._at.pop(request_id, None)
        if len(self._heap) > 2 * len(self._at) + _SLACK_ENTRIES:
            self._heap = [(at, one) for one, at in self._at.items()]
            heapq.heapify(self._heap)

    def due(self, now: float) -> list[RequestId]:
        """Takes out the requests whose moment has come, the earliest first."""
        found = []
        while self._heap and self._heap[0][0] <= now:
            at, request_id = heapq.heappop(self._heap)
            if self._at.get(request_id) == at:
                del self._at[request_id]
                found.append(request_id)
        return found
