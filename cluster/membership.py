"""Who is in the cluster: events in, a new table out. Pure.

A worker's life is `starting → warming → ready → draining → gone`, and from `gone` it starts again
as the next incarnation. `TRANSITIONS` is the whole machine; what is absent there is an error,
except that events about an earlier incarnation are late news and change nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import assert_never

from baton.ids import WorkerId
from baton.messages import ClusterView, Member, Role, WorkerInfo, WorkerState


@dataclass(frozen=True, slots=True)
class WorkerPlaced:
    """A process was asked for. `at` is the controller's clock, here and below."""

    worker_id: WorkerId
    role: Role
    incarnation: int
    core_index: int
    at: float


@dataclass(frozen=True, slots=True)
class WorkerProgressed:
    """It said what it is doing."""

    worker_id: WorkerId
    incarnation: int
    detail: str
    at: float
    waits: bool = False
    """Whether there is no machine for it yet: that is no part of its start."""


@dataclass(frozen=True, slots=True)
class _WorkerUp:
    """Its engine runs."""

    info: WorkerInfo
    at: float

    @property
    def worker_id(self) -> WorkerId:
        """Whom this is about."""
        return self.info.worker_id

    @property
    def incarnation(self) -> int:
        """Which start of it."""
        return self.info.incarnation


@dataclass(frozen=True, slots=True)
class WorkerWarming(_WorkerUp):
    """It makes its first requests: peers may talk to it, routers do not yet."""

    detail: str = "first requests"


@dataclass(frozen=True, slots=True)
class WorkerReady(_WorkerUp):
    """It can take requests."""

    detail: str = ""
    """What went wrong with its first requests."""


@dataclass(frozen=True, slots=True)
class WorkerDied:
    """It is of no more use, whether or not a process of it still exists."""

    worker_id: WorkerId
    incarnation: int
    why: str
    at: float
    error: Mapping[str, str] | None = None
    """The wire form of a StartupError, where the worker named one."""


@dataclass(frozen=True, slots=True)
class DrainAsked:
    """It is to finish what runs and to leave."""

    worker_id: WorkerId
    incarnation: int
    at: float


@dataclass(frozen=True, slots=True)
class WorkerComplained:
    """What it asks of its supervisor from now on; with nothing in it, it asks no more."""

    worker_id: WorkerId
    incarnation: int
    accused: tuple[str, ...] = ()
    """Transfer agents of the peers whose death it asks for."""
    worn_out: str = ""
    """Why it asks to be replaced itself."""


@dataclass(frozen=True, slots=True)
class RoleLent:
    """For now routers are to send it what is of this role; None = what is of its own."""

    worker_id: WorkerId
    incarnation: int
    role: Role | None
    at: float


@dataclass(frozen=True, slots=True)
class WorkerStopped:
    """It left because it was asked to."""

    worker_id: WorkerId
    incarnation: int
    at: float


Event = (
    WorkerPlaced
    | WorkerProgressed
    | WorkerWarming
    | WorkerReady
    | WorkerDied
    | WorkerComplained
    | DrainAsked
    | RoleLent
    | WorkerStopped
)


@dataclass(frozen=True, slots=True)
class Row:
    """One worker id and its latest incarnation."""

    worker_id: WorkerId
    role: Role
    incarnation: int
    core_index: int
    state: WorkerState
    since: float
    """When it entered this state."""
    detail: str = ""
    info: WorkerInfo | None = None
    died: bool = False
    """Whether it is gone without having been asked to leave."""
    ready_for_s: float = 0.0
    """How long it had been ready when it left that state."""
    error: Mapping[str, str] | None = None
    accused: tuple[str, ...] = ()
    worn_out: str = ""
    lent_to: Role | None = None
    """The role that it stands in for."""
    waits: bool = False
    """Whether there is no machine for it yet."""


@dataclass(frozen=True, slots=True)
class Table:
    """All workers at one version, ordered by id; the version grows with every change."""

    version: int = 0
    rows: tuple[Row, ...] = ()

    def row(self, worker_id: WorkerId) -> Row | None:
        """The row of this worker, None if there never was one."""
        return next((row for row in self.rows if row.worker_id == worker_id), None)


class IllegalTransitionError(Exception):
    """An event that cannot happen in the state its worker is in: a fault of the caller."""


_S, _W, _R = WorkerState.STARTING, WorkerState.WARMING, WorkerState.READY
_D, _G = WorkerState.DRAINING, WorkerState.GONE
_UP = (_W, _R, _D)

TRANSITIONS: Mapping[tuple[WorkerState | None, type[Event]], WorkerState] = MappingProxyType(
    {
        (None, WorkerPlaced): _S,
        (_G, WorkerPlaced): _S,
        (_S, WorkerProgressed): _S,
        (_S, WorkerWarming): _W,
        (_S, WorkerReady): _R,
        (_S, WorkerDied): _G,
        (_S, DrainAsked): _D,
        (_S, WorkerStopped): _G,
        (_W, WorkerReady): _R,
        (_W, WorkerDied): _G,
        (_W, DrainAsked): _D,
        (_W, WorkerStopped): _G,
        (_R, WorkerComplained): _R,
        (_R, WorkerDied): _G,
        (_R, DrainAsked): _D,
        (_R, RoleLent): _R,
        (_R, WorkerStopped): _G,
        (_D, WorkerDied): _G,
        (_D, WorkerStopped): _G,
    }
)


def apply(table: Table, event: Event) -> Table:
    """The table after `event`; the same object if nothing changed.

    Raises IllegalTransitionError for an event that this worker's state does not allow.
    """
    row = table.row(event.worker_id)
    if row is not None and event.incarnation < row.incarnation:
        return table
    _check_incarnation(row, event)
    target = TRANSITIONS.get((None if row is None else row.state, type(event)))
    if target is None:
        raise IllegalTransitionError(f"{type(event).__name__} for {event.worker_id}: {row}")
    changed = _changed(row, event, target)
    if changed == row:
        return table
    others = [other for other in table.rows if other.worker_id != event.worker_id]
    rows = sorted([*others, changed], key=_order)
    return Table(table.version + 1, tuple(rows))


def view(table: Table) -> ClusterView:
    """The table as routers see it."""
    return ClusterView(table.version, tuple(_member(row) for row in table.rows))


def check_invariants(table: Table) -> None:
    """Raises AssertionError if the table could not have come from events."""
    ids = [row.worker_id for row in table.rows]
    assert len(set(ids)) == len(ids), ids
    assert table.version >= len(ids), table.version
    for row in table.rows:
        assert row.incarnation >= 1, row
        assert row.state not in (_W, _R) or row.info is not None, row
        assert row.state in _UP or row.info is None, row
        assert row.state is WorkerState.GONE or not row.died, row
        assert row.state is WorkerState.READY or not (row.accused or row.worn_out), row
        assert row.state is WorkerState.READY or row.lent_to is None, row
        assert row.state is WorkerState.STARTING or not row.waits, row
        if row.info is not None:
            named = (row.info.worker_id, row.info.incarnation, row.info.role)
            assert named == (row.worker_id, row.incarnation, row.role), row


def _check_incarnation(row: Row | None, event: Event) -> None:
    if isinstance(event, WorkerPlaced):
        # The first row may be of any incarnation: an adopted worker has a life behind it.
        lawful = event.incarnation >= 1 if row is None else event.incarnation == row.incarnation + 1
    else:
        lawful = row is not None and event.incarnation == row.incarnation
    if isinstance(event, _WorkerUp) and row is not None:
        lawful = lawful and event.info.role is row.role
    if not lawful:
        raise IllegalTransitionError(f"{type(event).__name__} for {event.worker_id}: {row}")


def _changed(row: Row | None, event: Event, target: WorkerState) -> Row:
    if isinstance(event, WorkerPlaced):
        return _placed(event)
    assert row is not None
    match event:
        case WorkerProgressed():
            since = event.at if row.waits and not event.waits else row.since
            return replace(row, detail=event.detail, since=since, waits=event.waits)
        case WorkerWarming() | WorkerReady():
            detail = event.detail
            came = replace(row, state=target, since=event.at, detail=detail, info=event.info)
            return replace(came, waits=False)
        case DrainAsked():
            return _left_ready(row, target, "draining", event.at)
        case WorkerComplained():
            return replace(row, accused=event.accused, worn_out=event.worn_out)
        case RoleLent():
            detail = "" if event.role is None else f"stands in for {event.role.value}"
            return replace(row, lent_to=event.role, detail=detail)
        case WorkerDied():
            gone = _left_ready(row, target, event.why, event.at)
            return replace(gone, info=None, died=True, error=event.error)
        case WorkerStopped():
            return replace(_left_ready(row, target, "stopped", event.at), info=None)
    assert_never(event)


def _placed(event: WorkerPlaced) -> Row:
    return Row(
        event.worker_id,
        event.role,
        event.incarnation,
        event.core_index,
        WorkerState.STARTING,
        event.at,
        "starting its process",
    )


def _left_ready(row: Row, target: WorkerState, detail: str, at: float) -> Row:
    ready_for_s = at - row.since if row.state is WorkerState.READY else row.ready_for_s
    left = replace(row, state=target, since=at, detail=detail, ready_for_s=ready_for_s)
    return replace(left, accused=(), worn_out="", lent_to=None, waits=False)


def _order(row: Row) -> tuple[bool, int, str]:
    number = row.worker_id.rpartition("-")[2]
    return (
        row.role is Role.DECODE,
        int(number) if number.isdecimal() else 0,
        row.worker_id,
    )


def _member(row: Row) -> Member:
    info = row.info
    if info is not None and row.lent_to is not None:
        info = replace(info, role=row.lent_to)
    return Member(row.worker_id, row.role, row.state, info, row.detail, row.incarnation - 1)
