"""Requests that no router has placed yet, and the routers with queues that let them go."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from simulator.flight import Flight
from simulator.job import Record
from simulator.plugs import Choice, HoldingRouter, Refused
from simulator.traces.request import Request

if TYPE_CHECKING:
    from simulator.cluster_model import Cluster


class Holding:
    """Brings news to routers with queues, and offers what plain ones hold again."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._plugs = [r if isinstance(r, HoldingRouter) else None for r in cluster.routers]
        self._wakes_at_s: list[float | None] = [None] * len(self._plugs)
        self.flights: dict[int, Flight] = {}

    def arrived(self, flight: Flight, plug: HoldingRouter, now: float) -> None:
        """Hands a request to its router."""
        router = flight.record.router
        self.flights[flight.request.number] = flight
        view = self._cluster.views[router].at(now)
        self._let_go(plug.arrived(flight.request, view, now), now)
        self._plan_wake(router)

    def offer(self, now: float) -> None:
        """Membership has changed: requests that nobody placed get another chance."""
        for flight in list(self.flights.values()):
            if self._plugs[flight.record.router] is None:
                del self.flights[flight.request.number]
                self._cluster.place(flight, now)
        for n in range(len(self._plugs)):
            self.tell(n, now, None)

    def tell(self, router: int, now: float, computed: Record | None) -> None:
        """News for a router with queues, which may let requests go."""
        plug = self._plugs[router]
        if plug is None:
            return
        view = self._cluster.views[router].at(now)
        self._let_go(plug.heard(view, now, computed), now)
        self._plan_wake(router)

    def _let_go(self, words: Iterable[tuple[Request, Choice | Refused]], now: float) -> None:
        for request, choice in words:
            flight = self.flights.get(request.number)
            if flight is None:
                continue
            if isinstance(choice, Refused):
                self._cluster.refuse(flight, choice)
            elif not self._cluster.send(flight, choice, now):
                flight.record.attempts += 1
                self._cluster.place(flight, now)

    def _plan_wake(self, router: int) -> None:
        plug = self._plugs[router]
        wakes_at_s = plug.wakes_at_s() if plug else None
        if wakes_at_s is not None and wakes_at_s != self._wakes_at_s[router]:
            self._wakes_at_s[router] = wakes_at_s
            self._cluster.clock.at(wakes_at_s, self._wake, router)

    def _wake(self, router: int, now: float) -> None:
        if now == self._wakes_at_s[router]:
            self._wakes_at_s[router] = None
            self.tell(router, now, None)
