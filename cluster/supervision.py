"""What to do about the workers: `decide(table, wanted, limits, memory, now)`. Pure.

Compares who is there with who should be. It is level-triggered: an action that its caller cannot
carry out yet is simply decided again the next time. Dead workers come back after a wait that
doubles with each failure and is forgotten once a worker stayed ready for `steady_s`. Until the
cluster was complete for the first time, an error that no second attempt can heal ends the start.

A worker may accuse a peer: ask for its death, because nothing else proves that its writes are over.
It is believed, and the accused start is ended, whatever state its process is in. Whoever accuses
too many is more likely to be at fault, and is itself replaced. An accusation of somebody who is not
there any more means nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from types import MappingProxyType

from baton.errors import BatonError, Reason, StartupError, StartupFault
from baton.ids import WorkerId
from baton.messages import Role, WorkerState
from cluster.membership import Row, Table
from cluster.ports import Placement

ALIVE = (WorkerState.STARTING, WorkerState.WARMING, WorkerState.READY)
"""The states of workers that nobody has given up."""
HEALABLE = frozenset({StartupFault.START_TIMEOUT, StartupFault.ENGINE_CRASHED})


@dataclass(frozen=True, slots=True)
class Wanted:
    """How many workers each pool should have."""

    prefill: int
    decode: int
    roles: tuple[tuple[WorkerId, Role], ...] = ()
    """Those of them that work in the other pool."""

    def slots(self) -> tuple[tuple[WorkerId, Role], ...]:
        """The workers that should exist. Their ids never change: they are places, not processes."""
        pools = ((Role.PREFILL, self.prefill), (Role.DECODE, self.decode))
        return tuple(
            (WorkerId(f"{role.value}-{number}"), role)
            for role, count in pools
            for number in range(count)
        )


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of patience, in seconds."""

    start_timeout_s: float
    backoff_s: float
    backoff_max_s: float
    steady_s: float = 60.0
    first_start_failures_max: int = 3
    """So often may one worker fail, for whatever reason, before a first start is given up."""
    accusations_max: int = 3
    """So many peers may one start of a worker have killed within `accusations_window_s`."""
    accusations_window_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Place:
    """Start this incarnation."""

    placement: Placement


@dataclass(frozen=True, slots=True)
class Stop:
    """Drain and end this one: nobody wants it any more, or a fresh start of it is wanted."""

    worker_id: WorkerId
    incarnation: int
    why: str = "nobody wants it any more"


@dataclass(frozen=True, slots=True)
class DeclareDead:
    """Give this one up, and make sure that it is dead."""

    worker_id: WorkerId
    incarnation: int
    error: StartupError | BatonError


@dataclass(frozen=True, slots=True)
class GiveUp:
    """End the start of the whole cluster with this error."""

    error: StartupError


Action = Place | Stop | DeclareDead | GiveUp


@dataclass(frozen=True, slots=True)
class History:
    """The failures of one worker since it was last steady."""

    incarnation: int
    """The last incarnation whose death is counted here."""
    failures: int
    retry_at: float


Start = tuple[WorkerId, int]
"""One start of a worker."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What `decide` remembers from one call to the next."""

    histories: Mapping[WorkerId, History] = field(default_factory=lambda: MappingProxyType({}))
    was_complete: bool = False
    """Whether every wanted worker was once ready at the same time."""
    believed: Mapping[Start, tuple[float, ...]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    """When accusations by this start of a worker were followed, lately."""


def decide(
    table: Table,
    wanted: Wanted,
    limits: Limits,
    memory: Memory,
    now: float,
    *,
    asked: Collection[Start] = (),
) -> tuple[tuple[Action, ...], Memory]:
    """The actions that bring the table closer to what is wanted, and the new memory.

    `asked`: the starts that an operator wants to be drained and replaced.
    """
    memory = _remembered(table, wanted, limits, memory, now)
    if not memory.was_complete and (error := _hopeless(table, limits, memory)) is not None:
        return (GiveUp(error),), memory
    sentences, memory = _sentences(table, limits, memory, now)
    ends = chain(
        _overdue(table, limits, now),
        sentences,
        _surplus(table, wanted),
        _asked_for(table, asked),
        _worn_out(table),
    )
    return (*_one_each(ends), *_missing(table, wanted, memory, now)), memory


def backoff_s(failures: int, limits: Limits) -> float:
    """How long to wait after this many failures in a row (at least 1)."""
    # The exponent is bounded so that a long row of failures cannot overflow.
    wait_s: float = limits.backoff_s * 2 ** min(failures - 1, 32)
    return min(limits.backoff_max_s, wait_s)


def heals(error: StartupError) -> bool:
    """Whether another attempt at the same thing might go well."""
    return error.fault in HEALABLE


def _remembered(table: Table, wanted: Wanted, limits: Limits, memory: Memory, now: float) -> Memory:
    histories = dict(memory.histories)
    for row in table.rows:
        known = histories.get(row.worker_id)
        if row.died and (known is None or known.incarnation < row.incarnation):
            histories[row.worker_id] = _one_more(row, known, limits)
    ready = {row.worker_id for row in table.rows if row.state is WorkerState.READY}
    complete = all(worker_id in ready for worker_id, _ in wanted.slots())
    return Memory(
        MappingProxyType(histories),
        memory.was_complete or complete,
        MappingProxyType(_lately(memory.believed, now - limits.accusations_window_s)),
    )


def _lately(
    believed: Mapping[Start, tuple[float, ...]], since: float
) -> dict[Start, tuple[float, ...]]:
    recent = {start: tuple(at for at in times if at > since) for start, times in believed.items()}
    return {start: times for start, times in recent.items() if times}


def _one_more(row: Row, known: History | None, limits: Limits) -> History:
    before = 0 if known is None or row.ready_for_s >= limits.steady_s else known.failures
    failures = before + 1
    return History(row.incarnation, failures, row.since + backoff_s(failures, limits))


def _hopeless(table: Table, limits: Limits, memory: Memory) -> StartupError | None:
    for row in table.rows:
        if not row.died:
            continue
        error = _error_of(row)
        failures = memory.histories[row.worker_id].failures
        if not heals(error) or failures >= limits.first_start_failures_max:
            return error
    return None


def _error_of(row: Row) -> StartupError:
    if row.error is not None and "fault" in row.error:
        return StartupError.from_wire(row.error)
    return StartupError(StartupFault.ENGINE_CRASHED, f"{row.worker_id} died: {row.detail}")


def _sentences(
    table: Table, limits: Limits, memory: Memory, now: float
) -> tuple[list[DeclareDead | Stop], Memory]:
    """What follows from the accusations that stand."""
    believed = dict(memory.believed)
    found: list[DeclareDead | Stop] = []
    for accuser, accused in _accusations(table):
        start = (accuser.worker_id, accuser.incarnation)
        if any(isinstance(a, DeclareDead) and a.worker_id == accuser.worker_id for a in found):
            # Of two that accuse each other one goes: its end is the proof that both ask for.
            continue
        earlier = believed.get(start, ())
        if len(earlier) >= limits.accusations_max:
            why = f"it asked for the death of {len(earlier) + 1} peers within minutes"
            found.append(Stop(*start, why))
            continue
        believed[start] = (*earlier, now)
        found.append(DeclareDead(accused.worker_id, accused.incarnation, _sentence(accuser)))
    return found, replace(memory, believed=MappingProxyType(believed))


def _accusations(table: Table) -> Iterator[tuple[Row, Row]]:
    """(accuser, accused), each accused once. Nobody is heard against himself."""
    for accused in table.rows:
        agent = accused.info.transfer_agent if accused.info is not None else ""
        others = (row for row in table.rows if row.worker_id != accused.worker_id)
        accuser = next((row for row in others if agent and agent in row.accused), None)
        if accuser is not None:
            yield accuser, accused


def _sentence(accuser: Row) -> BatonError:
    return BatonError(
        Reason.TRANSFER_FAILED,
        f"killed, because it gave {accuser.worker_id} no proof that its writes of KV are over",
    )


def _worn_out(table: Table) -> Iterator[Stop]:
    """One of each role at a time: the others go on serving, worn out as they are."""
    passing = (WorkerState.STARTING, WorkerState.WARMING, WorkerState.DRAINING)
    busy = {row.role for row in table.rows if row.state in passing and not row.waits}
    for row in table.rows:
        if row.worn_out and row.role not in busy:
            busy.add(row.role)
            yield Stop(row.worker_id, row.incarnation, row.worn_out)


def _asked_for(table: Table, asked: Collection[Start]) -> Iterator[Stop]:
    for row in table.rows:
        serves = row.state in (WorkerState.WARMING, WorkerState.READY)
        if serves and (row.worker_id, row.incarnation) in asked:
            yield Stop(row.worker_id, row.incarnation, "a fresh start of it was asked for")


def _one_each(actions: Iterable[DeclareDead | Stop]) -> Iterator[DeclareDead | Stop]:
    """The first about each worker: it cannot be ended twice."""
    named: set[WorkerId] = set()
    for action in actions:
        if action.worker_id not in named:
            named.add(action.worker_id)
            yield action


def _overdue(table: Table, limits: Limits, now: float) -> Iterator[DeclareDead]:
    for row in table.rows:
        starting = row.state is WorkerState.STARTING and not row.waits
        if starting and now - row.since > limits.start_timeout_s:
            message = f"{row.worker_id} was not ready after {limits.start_timeout_s:g} s"
            error = StartupError(
                StartupFault.START_TIMEOUT, message, details=(f"last seen: {row.detail}",)
            )
            yield DeclareDead(row.worker_id, row.incarnation, error)


def _surplus(table: Table, wanted: Wanted) -> Iterator[Stop]:
    slots = {worker_id for worker_id, _ in wanted.slots()}
    for row in table.rows:
        if row.state in ALIVE and row.worker_id not in slots:
            yield Stop(row.worker_id, row.incarnation)


def _missing(table: Table, wanted: Wanted, memory: Memory, now: float) -> Iterator[Action]:
    taken = {row.core_index for row in table.rows if row.state is not WorkerState.GONE}
    for worker_id, role in wanted.slots():
        row = table.row(worker_id)
        if row is not None and not _may_return(row, memory, now):
            continue
        core = _free_core(taken, None if row is None else row.core_index)
        taken.add(core)
        yield Place(Placement(worker_id, role, 1 if row is None else row.incarnation + 1, core))


def _may_return(row: Row, memory: Memory, now: float) -> bool:
    if row.state is not WorkerState.GONE:
        return False
    return not row.died or now >= memory.histories[row.worker_id].retry_at


def _free_core(taken: set[int], preferred: int | None) -> int:
    if preferred is not None and preferred not in taken:
        return preferred
    return next(core for core in range(len(taken) + 1) if core not in taken)
