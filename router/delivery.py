"""A step's outputs on their way to the front end, and the aborts that come back meanwhile."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from baton.ids import RequestId
from router.ports import FrontPort


class Delivery:
    """Holds aborts back for as long as a front end reads the map of legs: they would change it."""

    def __init__(self) -> None:
        self._held: dict[RequestId, None] | None = None

    def holds(self, request_ids: Iterable[RequestId]) -> bool:
        """Whether a delivery is under way; then these aborts wait for its end."""
        if self._held is None:
            return False
        self._held.update(dict.fromkeys(request_ids))
        return True

    def deliver(
        self, front: FrontPort, outputs: Sequence[bytes], answering: dict[str, RequestId]
    ) -> Iterator[tuple[RequestId, bool]]:
        """Each request that has ended by it, and whether the engine knows that."""
        held = self._held = {}
        try:
            finished = front.deliver(outputs, answering)
        finally:
            self._held = None
        for request_id in finished:
            yield request_id, request_id not in held
        for request_id in held:
            yield request_id, False
