"""Supervision: what is decided for tables, and that it converges after any failures."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baton.errors import StartupError, StartupFault
from baton.ids import WorkerId
from baton.messages import Role, WorkerState
from cluster.membership import (
    DrainAsked,
    Table,
    WorkerDied,
    WorkerPlaced,
    WorkerReady,
    WorkerStopped,
    WorkerWarming,
    apply,
)
from cluster.supervision import (
    HEALABLE,
    Action,
    DeclareDead,
    GiveUp,
    Limits,
    Memory,
    Place,
    Stop,
    Wanted,
    backoff_s,
    decide,
)
from tests.unit.cluster.samples import info

LIMITS = Limits(start_timeout_s=100.0, backoff_s=1.0, backoff_max_s=8.0)
ONE_EACH = Wanted(1, 1)
P, D = WorkerId("prefill-0"), WorkerId("decode-0")
LATER = Memory(was_complete=True)


def place(table: Table, action: Place, at: float = 0.0) -> Table:
    p = action.placement
    return apply(table, WorkerPlaced(p.worker_id, p.role, p.incarnation, p.core_index, at))


def ready(table: Table, worker_id: WorkerId, at: float) -> Table:
    row = table.row(worker_id)
    assert row is not None
    return apply(table, WorkerReady(info(worker_id, row.incarnation, row.role), at))


def dead(table: Table, worker_id: WorkerId, at: float, error: StartupError | None = None) -> Table:
    row = table.row(worker_id)
    assert row is not None
    wire = None if error is None else error.to_wire()
    return apply(table, WorkerDied(worker_id, row.incarnation, "killed", at, wire))


def placements(actions: tuple[Action, ...]) -> list[Place]:
    return [action for action in actions if isinstance(action, Place)]


def started(at: float = 0.0) -> Table:
    table = Table()
    for action in placements(decide(table, ONE_EACH, LIMITS, Memory(), at)[0]):
        table = place(table, action, at)
    return table


def all_ready(at: float = 0.0) -> Table:
    return ready(ready(started(at), P, at), D, at)


def test_what_is_missing_is_placed_on_cores_of_its_own() -> None:
    actions, _ = decide(Table(), Wanted(2, 1), LIMITS, Memory(), 0.0)
    found = [(a.placement.worker_id, a.placement.incarnation, a.placement.core_index)
             for a in placements(actions)]  # fmt: skip
    assert found == [("prefill-0", 1, 0), ("prefill-1", 1, 1), ("decode-0", 1, 2)]


def test_nothing_to_do_when_all_are_there() -> None:
    actions, memory = decide(all_ready(), ONE_EACH, LIMITS, Memory(), 1.0)
    assert actions == ()
    assert memory.was_complete


def test_the_dead_come_back_after_the_backoff_on_their_own_core() -> None:
    table = dead(all_ready(), D, 10.0)
    actions, memory = decide(table, ONE_EACH, LIMITS, LATER, 10.5)
    assert actions == ()
    actions, _ = decide(table, ONE_EACH, LIMITS, memory, 11.0)
    (action,) = placements(actions)
    assert action.placement.incarnation == 2
    assert action.placement.core_index == 1


def test_the_backoff_doubles_up_to_its_bound() -> None:
    assert [backoff_s(n, LIMITS) for n in (1, 2, 3, 4, 5, 10_000)] == [1, 2, 4, 8, 8, 8]


@pytest.mark.parametrize(("ready_s", "wait_s"), [(59.0, 4.0), (60.0, 1.0)])
def test_a_minute_of_health_is_forgiveness(ready_s: float, wait_s: float) -> None:
    table, memory, now = all_ready(), LATER, 0.0
    for _ in range(2):
        table = dead(table, D, now)
        _, memory = decide(table, ONE_EACH, LIMITS, memory, now)
        now += 8.0
        (action,) = placements(decide(table, ONE_EACH, LIMITS, memory, now)[0])
        table = ready(place(table, action, now), D, now)
    table = dead(table, D, now + ready_s)
    _, memory = decide(table, ONE_EACH, LIMITS, memory, now + ready_s)
    assert memory.histories[D].retry_at == now + ready_s + wait_s


def test_a_slow_start_is_declared_dead() -> None:
    assert decide(started(), ONE_EACH, LIMITS, Memory(), 100.0)[0] == ()
    actions, _ = decide(started(), ONE_EACH, LIMITS, Memory(), 100.1)
    assert [type(action) for action in actions] == [DeclareDead, DeclareDead]
    assert isinstance(actions[0], DeclareDead)
    assert actions[0].error.fault is StartupFault.START_TIMEOUT


@pytest.mark.parametrize("fault", sorted(set(StartupFault) - HEALABLE))
def test_what_cannot_heal_ends_the_first_start(fault: StartupFault) -> None:
    table = dead(started(), P, 1.0, StartupError(fault, "no"))
    (action,), _ = decide(table, ONE_EACH, LIMITS, Memory(), 1.0)
    assert isinstance(action, GiveUp)
    assert action.error.fault is fault


def test_later_even_that_is_tried_again() -> None:
    table = dead(started(), P, 1.0, StartupError(StartupFault.MODEL_MISSING, "no"))
    actions, _ = decide(table, ONE_EACH, LIMITS, LATER, 9.0)
    assert [type(action) for action in actions] == [Place]


def test_a_first_start_is_given_up_after_some_failures() -> None:
    table, memory, now = started(), Memory(), 0.0
    for _ in range(LIMITS.first_start_failures_max - 1):
        table = dead(table, P, now)
        actions, memory = decide(table, ONE_EACH, LIMITS, memory, now)
        assert actions == ()
        now += 8.0
        (action,) = placements(decide(table, ONE_EACH, LIMITS, memory, now)[0])
        table = place(table, action, now)
    table = dead(table, P, now)
    (last,), _ = decide(table, ONE_EACH, LIMITS, memory, now)
    assert isinstance(last, GiveUp)


def test_the_surplus_is_stopped_once_and_may_return() -> None:
    fewer = Wanted(0, 1)
    (action,), memory = decide(all_ready(), fewer, LIMITS, LATER, 1.0)
    assert action == Stop(P, 1)
    table = apply(all_ready(), DrainAsked(P, 1, 1.0))
    assert decide(table, fewer, LIMITS, memory, 2.0)[0] == ()
    table = apply(table, WorkerStopped(P, 1, 3.0))
    (again,) = placements(decide(table, ONE_EACH, LIMITS, memory, 3.0)[0])
    assert again.placement.incarnation == 2


def test_what_an_operator_asks_for_is_one_start_and_only_when_ready() -> None:
    table = ready(started(), D, 0.0)
    (action,) = decide(table, ONE_EACH, LIMITS, LATER, 1.0, asked={(D, 1), (P, 1), (D, 7)})[0]
    assert (action.worker_id, action.incarnation) == (D, 1)
    assert decide(table, ONE_EACH, LIMITS, LATER, 1.0, asked={(D, 2)})[0] == ()


def test_whoever_makes_its_first_requests_can_be_asked_to_leave() -> None:
    table = apply(started(), WorkerWarming(info(D, 1, Role.DECODE), 0.0))
    (action,) = decide(table, ONE_EACH, LIMITS, LATER, 1.0, asked={(D, 1)})[0]
    assert (action.worker_id, type(action)) == (D, Stop)


def test_two_workers_never_share_a_core() -> None:
    table = ready(started(), D, 0.0)
    table = apply(table, WorkerStopped(P, 1, 1.0))
    (action,) = placements(decide(table, Wanted(1, 1), LIMITS, LATER, 1.0)[0])
    assert action.placement.core_index == 0
    taken = replace(table, rows=tuple(replace(row, core_index=0) for row in table.rows))
    (moved,) = placements(decide(taken, Wanted(1, 1), LIMITS, LATER, 1.0)[0])
    assert moved.placement.core_index == 1


@given(st.integers(0, 3), st.integers(1, 3), st.lists(st.integers(0, 5), max_size=20))
def test_it_converges_after_any_deaths(prefill: int, decode: int, deaths: list[int]) -> None:
    wanted, table, memory, now = Wanted(prefill, decode), Table(), LATER, 0.0
    for who in [*deaths, None, None]:
        now += LIMITS.backoff_max_s
        actions, memory = decide(table, wanted, LIMITS, memory, now)
        # Once more, because a death is first remembered and then waited for.
        now += LIMITS.backoff_max_s
        actions, memory = decide(table, wanted, LIMITS, memory, now)
        for action in placements(actions):
            table = ready(place(table, action, now), action.placement.worker_id, now)
        alive = [row.worker_id for row in table.rows if row.state is WorkerState.READY]
        if who is not None and who < len(alive):
            table = dead(table, alive[who], now)
    actions, memory = decide(table, wanted, LIMITS, memory, now)
    assert actions == ()
    assert {row.worker_id for row in table.rows} == {name for name, _ in wanted.slots()}
    cores = [row.core_index for row in table.rows]
    assert len(set(cores)) == len(cores)
    assert sum(row.role is Role.DECODE for row in table.rows) == decode
