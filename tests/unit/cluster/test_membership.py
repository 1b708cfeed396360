"""Membership: every event in every state, and what holds after any history."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baton.ids import WorkerId
from baton.messages import Role, WorkerState
from cluster.membership import (
    TRANSITIONS,
    DrainAsked,
    Event,
    IllegalTransitionError,
    RoleLent,
    Table,
    WorkerComplained,
    WorkerDied,
    WorkerPlaced,
    WorkerProgressed,
    WorkerReady,
    WorkerStopped,
    WorkerWarming,
    apply,
    check_invariants,
    view,
)
from tests.unit.cluster.samples import info

W = WorkerId("prefill-0")


def events(worker_id: WorkerId, role: Role, incarnation: int, at: float) -> list[Event]:
    return [
        WorkerPlaced(worker_id, role, incarnation, 0, at),
        WorkerProgressed(worker_id, incarnation, f"step at {at}", at, waits=int(at) % 2 > 0),
        WorkerReady(info(worker_id, incarnation, role), at),
        WorkerDied(worker_id, incarnation, "killed", at),
        DrainAsked(worker_id, incarnation, at),
        WorkerComplained(worker_id, incarnation, (f"agent {at}",), "worn"),
        RoleLent(worker_id, incarnation, Role.DECODE if int(at) % 3 else None, at),
        WorkerStopped(worker_id, incarnation, at),
        WorkerWarming(info(worker_id, incarnation, role), at),
    ]


def table_in(state: WorkerState | None) -> Table:
    placed, _, ready, died, drain, *_, warming = events(W, Role.PREFILL, 1, 1.0)
    paths: dict[WorkerState | None, list[Event]] = {
        None: [],
        WorkerState.STARTING: [placed],
        WorkerState.WARMING: [placed, warming],
        WorkerState.READY: [placed, warming, ready],
        WorkerState.DRAINING: [placed, ready, drain],
        WorkerState.GONE: [placed, died],
    }
    table = Table()
    for event in paths[state]:
        table = apply(table, event)
    return table


@pytest.mark.parametrize("state", [None, *WorkerState])
@pytest.mark.parametrize("kind", range(9))
def test_every_event_in_every_state(state: WorkerState | None, kind: int) -> None:
    table = table_in(state)
    incarnation = 2 if kind == 0 and state is WorkerState.GONE else 1
    event = events(W, Role.PREFILL, incarnation, 2.0)[kind]
    target = TRANSITIONS.get((state, type(event)))
    if target is None:
        with pytest.raises(IllegalTransitionError):
            apply(table, event)
    else:
        after = apply(table, event)
        check_invariants(after)
        row = after.row(W)
        assert row is not None
        assert row.state is target
        assert after.version == table.version + 1


def test_late_news_of_an_earlier_incarnation_changes_nothing() -> None:
    table = apply(table_in(WorkerState.GONE), WorkerPlaced(W, Role.PREFILL, 2, 0, 3.0))
    for event in events(W, Role.PREFILL, 1, 4.0):
        assert apply(table, event) is table


def test_an_incarnation_cannot_be_skipped_or_repeated() -> None:
    for incarnation in (1, 3):
        event = WorkerPlaced(W, Role.PREFILL, incarnation, 0, 3.0)
        with pytest.raises(IllegalTransitionError):
            apply(table_in(WorkerState.GONE), event)


def test_an_adopted_worker_may_start_at_any_incarnation() -> None:
    table = apply(Table(), WorkerPlaced(W, Role.PREFILL, 7, 0, 0.0))
    assert view(table).members[0].restarts == 6


@pytest.mark.parametrize("kind", [WorkerWarming, WorkerReady])
def test_up_in_another_role_is_refused(kind: type[WorkerWarming | WorkerReady]) -> None:
    with pytest.raises(IllegalTransitionError):
        apply(table_in(WorkerState.STARTING), kind(info(W, 1, Role.DECODE), 2.0))


def test_what_went_wrong_with_first_requests_is_shown() -> None:
    after = apply(table_in(WorkerState.WARMING), WorkerReady(info(W, 1, Role.PREFILL), 2.0, "cold"))
    assert view(after).members[0].detail == "cold"


def test_the_view_offers_ready_workers_only() -> None:
    for state in WorkerState:
        offered = view(table_in(state)).ready(Role.PREFILL)
        assert [i.worker_id for i in offered] == ([W] if state is WorkerState.READY else [])


def test_the_same_progress_twice_is_no_new_version() -> None:
    event = WorkerProgressed(W, 1, "loading", 2.0)
    once = apply(table_in(WorkerState.STARTING), event)
    assert apply(once, event) is once


def test_time_in_ready_is_kept() -> None:
    table = apply(table_in(WorkerState.READY), WorkerDied(W, 1, "killed", 91.0))
    assert table.rows[0].ready_for_s == 90.0


def test_rows_are_in_the_order_of_people() -> None:
    table = Table()
    for name, role in [("decode-0", Role.DECODE), ("prefill-10", Role.PREFILL),
                       ("prefill-2", Role.PREFILL)]:  # fmt: skip
        table = apply(table, WorkerPlaced(WorkerId(name), role, 1, 0, 0.0))
    assert [row.worker_id for row in table.rows] == ["prefill-2", "prefill-10", "decode-0"]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3), st.integers(0, 8)), max_size=60))
def test_invariants_hold_after_any_history(steps: list[tuple[int, int, int]]) -> None:
    table = Table()
    for at, (who, incarnation, kind) in enumerate(steps):
        role = Role.DECODE if who == 2 else Role.PREFILL
        event = events(WorkerId(f"{role.value}-{who}"), role, incarnation, float(at))[kind]
        before = table
        try:
            table = apply(table, event)
        except IllegalTransitionError:
            continue
        check_invariants(table)
        assert (table is before) == (table.version == before.version)
        assert table.version >= before.version
