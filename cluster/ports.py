"""What the controller needs from the processes it looks after, and from whoever starts them.

`WorkerProcess` and `RouterProcess` are plain classes elsewhere; their methods are called by name
through a `Handle`. All of them return quickly, and what they return crosses a process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from baton.ids import RouterId, WorkerId
from baton.messages import ClusterView, Role, WorkerInfo, WorkerState
from baton.signals import RouterSignals
from cluster.processes import Process
from cluster.tally import ScalingFigures


@dataclass(frozen=True, slots=True)
class StartProgress:
    """What a worker is doing, as it says itself."""

    phase: str = ""
    ready: WorkerInfo | None = None
    error: Mapping[str, str] | None = None
    """Why it failed: the wire form of a StartupError or a BatonError."""
    alive: bool = True
    """False once its engine has died; the reason is in `error`, if it is known."""
    accused: tuple[str, ...] = ()
    """Transfer agents of peers whose death it asks for: nothing else proves that they write no
    more into its memory."""
    worn_out: str = ""
    """Why it asks to be replaced; empty while it does not."""
    leaving: bool = False
    """Whether a signal told it to leave: it waits to be drained, for a moment."""
    warmed: str | None = None
    """Set once its first requests are over: what went wrong with them, empty = nothing."""


@dataclass(frozen=True, slots=True)
class RouterProgress:
    """What a router is doing, as it says itself."""

    ready_url: str | None = None
    """Where clients reach it, such as http://127.0.0.1:8000; None = not yet."""
    error: Mapping[str, str] | None = None
    alive: bool = True
    leaving: bool = False
    """Whether a signal told it to leave: it waits for a successor, for a while."""
    view_version: int = -1
    """The newest version of the members that it was told; -1 = none yet."""
    digest: str = ""
    """`baton.ids.router_digest` of what it runs with."""
    metrics_address: str = ""
    """host:port where this router's metrics are, and no other one's; empty = not yet."""


@dataclass(frozen=True, slots=True)
class RouterRow:
    """One router as the cluster's table shows it."""

    router_id: RouterId
    state: WorkerState
    url: str | None
    detail: str
    restarts: int
    pid: int | None
    replaced: bool = False
    """Whether its successor has its place already, and it only serves its last clients."""
    metrics_address: str = ""
    """host:port where this router's metrics are, and no other one's."""


@dataclass(frozen=True, slots=True)
class ScalingRow:
    """How many workers are wanted, and why."""

    mode: Literal["manual", "auto"]
    """auto = the scaling law decides."""
    prefill: int
    decode: int
    why: tuple[str, ...] = ()
    """A sentence for each pool, by the last decision of the law."""
    lately: tuple[str, ...] = ()
    """The last changes, each with its time and reason."""
    figures: ScalingFigures | None = field(default=None, compare=False)
    """For metrics. They change all the time, which is no news to anybody."""


@dataclass(frozen=True, slots=True)
class Placement:
    """One incarnation of one worker, and the core that is its own on a machine without a GPU."""

    worker_id: WorkerId
    role: Role
    incarnation: int
    core_index: int


class WorkerProcess(Protocol):
    """One worker: an engine and its service. Built by settings, placement and digest."""

    def start(self) -> None:
        """Begins the start-up on a thread of its own and returns. May be called again."""

    def progress(self) -> StartProgress:
        """Cheap; asked at every health interval."""
        ...

    def warm(self, role: Role, peers: Sequence[WorkerInfo], timeout_s: float) -> None:
        """Makes the first requests: one of its own, and as a worker of this role one with each
        peer, one after the other. Returns at once. May be called again, and then does nothing."""

    def peers_dead(self, agents: Sequence[str]) -> None:
        """The engines with these transfer agents have ended for certain. Returns at once."""

    def drain(self, timeout_s: float) -> None:
        """From now on refuses new requests; running ones may take `timeout_s`. Returns at once."""

    def drained(self) -> bool:
        """Whether no request runs any more, and all KV that it computed has been delivered."""
        ...

    def leave(self) -> bool:
        """A signal asks it to go: its supervisor is told, drains it and starts it anew; without
        one it drains and ends by itself. False: it has nothing to finish. Returns at once."""
        ...

    def stop(self, timeout_s: float) -> None:
        """Ends the engine and leaves no process behind but its own."""

    def pids(self) -> list[int]:
        """Every process of this worker, its own first."""
        ...


class RouterProcess(Protocol):
    """One router: the front door. Built by settings, router id and digest."""

    def start(self, door: str = "") -> None:
        """Begins the start-up on a thread of its own and returns. `door`: what its predecessor
        answered to `offer`; its port is taken over. Empty = the port is opened. May be called
        again, and then does nothing."""

    def progress(self) -> RouterProgress:
        """Cheap; asked at every health interval."""
        ...

    def set_view(
        self,
        view: ClusterView,
        routers: Sequence[RouterRow] = (),
        scaling: ScalingRow | None = None,
    ) -> None:
        """Replaces the members it may send requests to; an older version is ignored. `routers` and
        `scaling` are for people who ask this one for the rest of the cluster."""

    def status(self) -> dict[str, Any]:
        """Counters for people, in what JSON can hold."""
        ...

    def signals(self) -> RouterSignals | None:
        """What it measured of the pools a moment ago; None while it starts. Cheap."""
        ...

    def drain(self, timeout_s: float) -> None:
        """From now on refuses new requests; running ones may take `timeout_s`. Returns at once."""

    def drained(self) -> bool:
        """Whether no request runs any more."""
        ...

    def offer(self) -> str:
        """Where its successor gets the open port, for a while; empty if it has none."""
        ...

    def withdraw(self) -> None:
        """From now on takes no new connections. Who is connected is served, and told with each
        answer to connect anew. Returns at once."""

    def clients(self) -> int:
        """How many clients are connected."""
        ...

    def leave(self) -> bool:
        """A signal asks it to go: its supervisor is told and starts a successor; without one it
        withdraws after a while, and ends. False: it serves nobody. Returns at once."""
        ...

    def stop(self, timeout_s: float) -> None:
        """Closes the port and ends."""


class Handle(Protocol):
    """One running process, seen from the controller."""

    @property
    def pid(self) -> int:
        """Its process id on its own machine."""
        ...

    async def call(self, method: str, *args: object, timeout_s: float) -> Any:
        """What the method returned.

        Raises BatonError: WORKER_LOST when the process is gone, DEADLINE_EXCEEDED when it did not
        answer in time, INTERNAL when the method raised anything else; what it raised as BatonError
        or StartupError is raised as it is.
        """
        ...

    async def leave(self) -> None:
        """Lets the process end by itself, so that it can tidy up, and kills it if it does not.

        Waits, within a bound, until it is gone. Never raises.
        """
        ...

    async def kill(self, *engine: Process) -> bool:
        """Ends the process at once, stopped or not, and with it the engine, a process of the same
        machine. Waits, within a bound, until they are gone. Never raises.

        True: it is certain that none of them runs any more.
        """
        ...


@dataclass(frozen=True, slots=True)
class Adopted:
    """A worker that an earlier controller left running."""

    placement: Placement
    handle: Handle


@dataclass(frozen=True, slots=True)
class AdoptedRouter:
    """A router that an earlier controller left running."""

    router_id: RouterId
    incarnation: int
    handle: Handle


Waiting = Mapping[tuple[WorkerId, int], str]
"""Why there is no room yet, by worker and incarnation."""


class ActorFactory(Protocol):
    """Whoever can start processes. On cancellation it leaves none behind."""

    async def adopt(self) -> Sequence[Adopted | AdoptedRouter]:
        """The workers and routers of this cluster that already run."""
        ...

    async def worker(self, placement: Placement) -> Handle:
        """A new worker process, not yet started. Raises BatonError or StartupError."""
        ...

    def waiting(self) -> Waiting:
        """Those of the workers under way that no machine has room for."""
        ...

    async def router(self, router_id: RouterId, incarnation: int) -> Handle:
        """A new router process, not yet started. Raises BatonError or StartupError."""
        ...
