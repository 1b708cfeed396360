"""The front end in the router and those in processes of their own, as one to the heart."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from baton.errors import BatonError
from baton.ids import RequestId
from router.ports import FrontPort


class LinkedFronts(FrontPort, Protocol):
    """A front end that knows which requests are its own."""

    @property
    def open(self) -> Collection[RequestId]:
        """Those that have not ended; quick to look into, which is done for every output."""


class Fronts:
    """Implements `router.ports.FrontPort`: each request's news go to where it came from.

    What the linked ones do not know is the inner one's.
    """

    def __init__(self, inner: FrontPort, linked: LinkedFronts) -> None:
        self._inner = inner
        self._linked = linked

    def deliver(
        self, buffers: Sequence[bytes], requests: dict[str, RequestId]
    ) -> Sequence[RequestId]:
        """See `FrontPort`. A step is read twice only while both kinds have requests."""
        linked = self._linked.open
        if not linked:
            return self._inner.deliver(buffers, requests)
        # Looked up first: delivering forgets what it finishes.
        others = {leg: one for leg, one in requests.items() if one not in linked}
        finished = self._linked.deliver(buffers, requests)
        return [*finished, *self._inner.deliver(buffers, others)] if others else finished

    def fail(self, request_id: RequestId, error: BatonError) -> None:
        """See `FrontPort`."""
        self._of(request_id).fail(request_id, error)

    def sent(self, request_id: RequestId) -> Sequence[int]:
        """See `FrontPort`."""
        return self._of(request_id).sent(request_id)

    def counter(self, request_id: RequestId) -> Callable[[], int]:
        """See `FrontPort`."""
        return self._of(request_id).counter(request_id)

    def _of(self, request_id: RequestId) -> FrontPort:
        return self._linked if request_id in self._linked.open else self._inner
