"""The requests that a prefill worker is to compute and has not computed yet."""

from __future__ import annotations

from dataclasses import dataclass

from baton.ids import Leg, LegId, RequestId
from router.explaining import Divided
from router.forecasts import Need
from router.planning import Kept
from router.policy import prefill
from router.policy.decode_choice import DecodeChoice
from router.ports import EngineRequest


@dataclass(slots=True)
class Opening:
    """One of them. Times in seconds of the router's clock, workers as slots."""

    request: EngineRequest
    need: Need
    place: prefill.Request
    divided: Divided
    came_at: float
    first: int
    """Where it would have gone when it came."""
    decode: DecodeChoice | None = None
    """Where it is decoded if it is sent to `first` at once; None later."""
    attempt: int = 0
    asked: tuple[int, ...] = ()
    refused: tuple[str, ...] = ()
    sent: prefill.Send | None = None
    sent_at: float = 0.0

    @property
    def leg_id(self) -> LegId:
        """The prefill leg of the current attempt."""
        return LegId(self.request.request_id, self.attempt, Leg.PREFILL)

    def kept(self, workers: int) -> Kept:
        """It waits here, with so many workers open that could compute it."""
        busy = f"each of {workers} prefill workers has enough to do"
        why = busy if workers else "no prefill worker takes requests"
        return Kept(self.request.request_id, f"waits here: {why}")


class Openings:
    """All of them. Bounded by the requests inside the router."""

    def __init__(self) -> None:
        self._by_number: dict[int, Opening] = {}
        self._numbers: dict[RequestId, int] = {}
        self._next = 0

    def next_number(self) -> int:
        """A number that no request has had."""
        self._next += 1
        return self._next

    def add(self, one: Opening) -> None:
        """One more."""
        self._by_number[one.place.number] = one
        self._numbers[one.request.request_id] = one.place.number

    def numbered(self, number: int) -> Opening | None:
        """The one that the desk knows by this number."""
        return self._by_number.get(number)

    def of(self, request_id: RequestId) -> Opening | None:
        """The one of this request."""
        return self._by_number.get(self._numbers.get(request_id, 0))

    def kept(self) -> list[Opening]:
        """Those that no worker has."""
        return [one for one in self._by_number.values() if one.sent is None]

    def take(self, request_id: RequestId) -> Opening | None:
        """Takes it out: computed, or its client has left."""
        number = self._numbers.pop(request_id, 0)
        return self._by_number.pop(number, None)
