"""The workers of a simulated cluster: who is there, in which state, and what they cost.

starting -> ready -> draining -> gone; ready -> changing -> ready with the other role. A lost worker
stays a member until its loss is noticed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum

from baton.ids import WorkerId
from baton.messages import Role
from simulator.crowd import Cores, CrowdedEngine
from simulator.engine import Engine
from simulator.flight import Flight
from simulator.job import Listener
from simulator.rules import ClusterRules


class State(Enum):
    """Where a worker is in its life."""

    STARTING = "starting"
    READY = "ready"
    CHANGING = "changing"
    DRAINING = "draining"
    LOST = "lost"
    GONE = "gone"


class Worker:
    """One worker: its engine, and the requests with a leg here."""

    __slots__ = (
        "born_s",
        "engine",
        "flights",
        "gone_s",
        "host",
        "inbound",
        "inbound_tokens",
        "promised_tokens",
        "pushed",
        "role",
        "state",
        "wanting",
        "worker_id",
    )

    def __init__(
        self, worker_id: WorkerId, role: Role, host: str, engine: Engine, born_s: float
    ) -> None:
        self.worker_id = worker_id
        self.role = role
        self.host = host
        self.engine = engine
        self.state = State.STARTING
        self.born_s = born_s
        self.gone_s = -1.0
        self.flights: dict[int, Flight] = {}
        self.inbound = 0
        """Requests whose KV will come here."""
        self.inbound_tokens = 0
        self.promised_tokens = 0
        """Of those, tokens that have no memory here yet."""
        self.wanting: deque[Flight] = deque()
        """Those of them that have no memory here yet."""
        self.pushed = -1
        """The engine's version for which its wake-up has been scheduled."""

    @property
    def alive(self) -> bool:
        """Whether it does anything."""
        return self.state in (State.READY, State.CHANGING, State.DRAINING)

    def expects(self, tokens: int) -> None:
        """One more request whose KV will come here."""
        self.inbound += 1
        self.inbound_tokens += tokens
        self.promised_tokens += tokens

    def granted(self, tokens: int) -> None:
        """Its KV has memory here."""
        self.promised_tokens -= tokens

    def expects_no_more(self, tokens: int, *, granted: bool = True) -> None:
        """It came, or never will."""
        self.inbound -= 1
        self.inbound_tokens -= tokens
        if not granted:
            self.promised_tokens -= tokens


class Fleet:
    """All workers that ever were. `version` counts changes that routers see."""

    def __init__(
        self,
        rules: ClusterRules,
        listener: Listener,
        stirred: Callable[[Worker], None] = lambda _: None,
    ) -> None:
        """`stirred` hears of workers whose engines have other plans because of a neighbour."""
        self._rules = rules
        self.cores = Cores(rules.cores, stirred) if rules.cores else None
        self._listener = listener
        self.workers: dict[WorkerId, Worker] = {}
        self.version = 0
        self.by_role: dict[Role, list[Worker]] = {Role.PREFILL: [], Role.DECODE: []}

    def start(self, role: Role, now: float) -> Worker:
        """A new worker that is not ready yet."""
        index = len(self.workers)
        rules = self._rules
        make = CrowdedEngine if self.cores else Engine
        engine = make(rules.times, rules.engine_of(role), self._listener)
        host = f"host-{index // self._rules.workers_per_host}"
        worker = Worker(WorkerId(f"worker-{index}"), role, host, engine, now)
        if self.cores and isinstance(engine, CrowdedEngine):
            self.cores.seat(engine, worker)
        self.workers[worker.worker_id] = worker
        return worker

    def join(self, worker: Worker) -> None:
        """Routers see it from now on, in the pool of its role."""
        worker.state = State.READY
        self.by_role[worker.role].append(worker)
        self.version += 1

    def leave(self, worker: Worker) -> None:
        """Routers do not see it any more."""
        if worker in self.by_role[worker.role]:
            self.by_role[worker.role].remove(worker)
            self.version += 1

    def drain(self, worker: Worker, now: float) -> None:
        """It takes no new work, and is gone when it has none."""
        self.leave(worker)
        worker.state = State.DRAINING
        self.end_if_done(worker, now)

    def end_if_done(self, worker: Worker, now: float) -> None:
        """A draining worker without work is gone."""
        if worker.state is State.DRAINING and not worker.flights:
            self.end(worker, now)

    def end(self, worker: Worker, now: float) -> None:
        """It costs nothing any more."""
        self.leave(worker)
        worker.state = State.GONE
        worker.gone_s = now

    def count(self, role: Role, state: State) -> int:
        """How many workers of a role are in a state."""
        return sum(w.role is role and w.state is state for w in self.workers.values())

    def worker_seconds(self, role: Role, now: float) -> float:
        """What a pool has cost: from the start of each worker to its end, warming up included.

        A worker that changed its role counts for the one that it has now.
        """
        workers = [w for w in self.workers.values() if w.role is role]
        return sum((now if w.gone_s < 0 else w.gone_s) - w.born_s for w in workers)
