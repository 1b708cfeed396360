"""Changes of membership: workers that start, change their role, leave, or are lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from baton.ids import WorkerId
from baton.messages import Role
from simulator.fleet import State, Worker
from simulator.rules import Fault

if TYPE_CHECKING:
    from simulator.cluster_model import Cluster


class Changes:
    """Carries them out, now or after the time that they take."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.count = 0
        """Changes that somebody asked for."""

    def start(self, role: Role, now: float) -> None:
        """A new worker; it takes requests after its start-up time."""
        self.count += 1
        worker = self._cluster.fleet.start(role, now)
        self._cluster.clock.at(now + self._cluster.rules.startup_s, self._ready, worker)

    def change_role(self, worker: Worker, now: float) -> None:
        """It leaves its pool at once, keeps what runs, and joins the other pool a little later."""
        self.count += 1
        self._cluster.fleet.leave(worker)
        worker.role = Role.DECODE if worker.role is Role.PREFILL else Role.PREFILL
        worker.state = State.CHANGING
        self._cluster.clock.at(now + self._cluster.rules.role_change_s, self._ready, worker)

    def drain(self, worker: Worker, now: float) -> None:
        """It takes nothing new and ends when it is empty. One that still starts ends at once."""
        self.count += 1
        self._cluster.fleet.drain(worker, now)

    def happen(self, fault: Fault, now: float) -> None:
        """Something from outside. What is meant for a worker that is not there does nothing."""
        if fault.what == "add":
            self.start(Role(fault.worker), now)
            return
        worker = self._cluster.fleet.workers.get(WorkerId(fault.worker))
        if worker and worker.alive and fault.what == "drain":
            self.drain(worker, now)
        elif worker and worker.alive:
            self._lose(worker, now)

    def _ready(self, worker: Worker, now: float) -> None:
        if worker.state in (State.STARTING, State.CHANGING):
            self._cluster.fleet.join(worker)
            self._cluster.holding.offer(now)

    def _lose(self, worker: Worker, now: float) -> None:
        """Its engine stops at once; routers send there until the loss is noticed."""
        worker.engine.stop(now)
        worker.state = State.LOST
        self._cluster.clock.at(now + self._cluster.rules.detect_s, self._notice, worker)

    def _notice(self, worker: Worker, now: float) -> None:
        """The loss is known: every request with a leg there starts again."""
        flights = list(worker.flights.values())
        self._cluster.fleet.end(worker, now)
        for flight in flights:
            self._cluster.restart(flight, now)
        self._cluster.holding.offer(now)
