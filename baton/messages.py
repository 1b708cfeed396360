"""What crosses a process between rooms, as frozen values.

Wire encodings live in `baton.wire`; these are the forms the rooms reason about. Nothing here does
I/O or knows a transport.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from baton.ids import WorkerId


class Role(StrEnum):
    """What a worker is for at this moment."""

    PREFILL = "prefill"
    DECODE = "decode"


class Dispatch(StrEnum):
    """When the decode leg may be sent, as the KV connector requires.

    SEQUENTIAL: after the prefill leg has ended, with what it handed over (a connector that pulls).
    CONCURRENT: together with the prefill leg, under one ticket (a connector that pushes).
    """

    SEQUENTIAL = "sequential"
    CONCURRENT = "concurrent"


class WorkerState(StrEnum):
    """A worker's place in its life, as the cluster sees it."""

    STARTING = "starting"
    WARMING = "warming"
    """Up, and making its first requests before users come."""
    READY = "ready"
    DRAINING = "draining"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Ticket:
    """Names one handoff of KV from a prefill leg to a decode leg."""

    ticket_id: str
    epoch: int
    deadline_s: float
    """Seconds from now until the handoff is given up; a duration, since clocks differ."""
    handed: bytes = b""
    """The prefill connector's word for the decode leg, opaque to the router."""
    peer: bytes = b""
    """The transfer endpoint of the worker at the other end, opaque to the router."""


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A started worker: identity, address, and the facts its peers must agree with."""

    worker_id: WorkerId
    incarnation: int
    """Counts starts under this worker id from 1: a restarted worker is a new peer."""
    role: Role
    address: str
    """host:port of its gRPC service."""
    config_digest: str
    """Equal on every worker and router that may work together."""
    connector: str
    dispatch: Dispatch
    served_model: str
    max_model_len_tokens: int
    block_size_tokens: int
    kv_blocks: int
    dtype: str
    device: str
    vllm_version: str
    pid: int
    engine_pid: int
    transfer_endpoint: bytes = b""
    """How the connectors of peers reach this worker's KV; empty where none is needed."""
    transfer_agent: str = ""
    """The name under which transfers know this engine, another one after each start; empty where
    the connector has no such names."""
    engine_started: int = 0
    """Start time of the engine process in clock ticks of its host; with `engine_pid` it names one
    process for as long as the host runs. 0 = unknown."""
    metrics_address: str = ""
    """host:port where the engine's metrics are; empty where they are not exported."""
    direct_address: str = ""
    """host:port where clients read answers from it; empty where they cannot."""
    engine_ranks: tuple[tuple[int, int], ...] = ()
    """(pid, start time) of the processes of its devices, where these are others: the engine has
    ended for its peers when all of them have."""

    @property
    def engine_processes(self) -> tuple[tuple[int, int], ...]:
        """(pid, start time) of every process whose end is the engine's; none where the start time
        is not known: such a pid could be anybody's, and its end would prove nothing."""
        if self.engine_started == 0:
            return ()
        return ((self.engine_pid, self.engine_started), *self.engine_ranks)


@dataclass(frozen=True, slots=True)
class WorkerLoad:
    """The scheduler's state after its last step; counts are requests unless named otherwise."""

    running: int = 0
    waiting: int = 0
    kv_used: float = 0.0
    """Share of KV blocks in use, 0 to 1."""
    queued_prompt_tokens: int = 0
    steps: int = 0
    step_s: float = 0.0
    draining: bool = False
    prefix_queried_tokens: int = 0
    prefix_hit_tokens: int = 0
    preemptions: int = 0
    queue_s: float = 0.0
    """Prompts to be computed before a new one, in seconds as the worker predicts them."""
    steps_s: float = 0.0
    """What all steps took since the worker's start, waiting for work left out."""


@dataclass(frozen=True, slots=True)
class LegTimes:
    """Where a leg's time went from being taken to its first output, in seconds of its worker."""

    room_s: float = 0.0
    """Until there were blocks for KV that comes from elsewhere; 0 where none does."""
    fetch_s: float = 0.0
    """From then until that KV had come."""
    queue_s: float = 0.0
    """From then until the engine's scheduler took it up."""
    compute_s: float = 0.0
    """From then until its first output was here."""


NO_TIMES = LegTimes()


@dataclass(frozen=True, slots=True)
class Member:
    """One worker as the cluster's table shows it."""

    worker_id: WorkerId
    role: Role
    state: WorkerState
    info: WorkerInfo | None = None
    detail: str = ""
    """What it is doing while it starts, or why it is gone."""
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class ClusterView:
    """The members at one version; routers replace their view whole."""

    version: int
    members: tuple[Member, ...] = field(default=())

    def ready(self, role: Role) -> tuple[WorkerInfo, ...]:
        """Workers of this role that may get new requests."""
        return tuple(
            m.info
            for m in self.members
            if m.role is role and m.state is WorkerState.READY and m.info is not None
        )
