"""Who stands in for the last decode worker, from when until when."""

from collections.abc import Mapping

from baton.ids import WorkerId
from baton.messages import Role
from cluster.membership import (
    DrainAsked,
    RoleLent,
    Table,
    WorkerDied,
    WorkerPlaced,
    WorkerReady,
    WorkerStopped,
    apply,
    check_invariants,
    view,
)
from cluster.standing_in import SEEN_AFTER_S, lendings
from tests.unit.cluster.samples import info

P, P1, D, D1 = (WorkerId(n) for n in ("prefill-0", "prefill-1", "decode-0", "decode-1"))


def cluster(*names: WorkerId) -> Table:
    table = Table()
    for core, name in enumerate(names):
        role = Role(name.partition("-")[0])
        table = apply(table, WorkerPlaced(name, role, 1, core, 0.0))
        table = apply(table, WorkerReady(info(name, 1, role), 0.0))
    return table


def lent(
    table: Table,
    *asked: tuple[WorkerId, int],
    now: float = 2.0,
    own: Mapping[WorkerId, Role] | None = None,
) -> Table:
    for event in lendings(table, asked, now, own or {}):
        table = apply(table, event)
    check_invariants(table)
    return table


def roles(table: Table) -> dict[str, Role]:
    """What routers send to whom."""
    return {m.worker_id: m.info.role for m in view(table).members if m.info is not None}


def test_nobody_is_lent_while_a_decode_worker_is_ready() -> None:
    assert lendings(cluster(P, D), (), 1.0) == ()
    assert lendings(apply(cluster(P, D, D1), DrainAsked(D, 1, 1.0)), (), 1.0) == ()


def test_the_last_decode_worker_has_a_stand_in_until_one_is_ready_again() -> None:
    table = lent(apply(cluster(P, P1, D), DrainAsked(D, 1, 1.0)))
    assert roles(table) == {P: Role.DECODE, P1: Role.PREFILL, D: Role.DECODE}
    assert view(table).members[0].detail == "stands in for decode"
    assert view(table).members[0].role is Role.PREFILL
    for event in (WorkerStopped(D, 1, 3.0), WorkerPlaced(D, Role.DECODE, 2, 2, 3.0)):
        table = apply(table, event)
        assert lendings(table, (), 3.0) == ()
    version = table.version
    table = apply(table, WorkerReady(info(D, 2, Role.DECODE), 4.0))
    # Routers have yet to connect to it.
    assert lendings(table, (), 4.0 + SEEN_AFTER_S - 0.1) == ()
    table = lent(table, now=4.0 + SEEN_AFTER_S)
    assert roles(table)[P] is Role.PREFILL
    assert view(table).members[0].detail == ""
    assert table.version == version + 2


def test_who_is_to_leave_too_does_not_stand_in() -> None:
    table = apply(cluster(P, P1, D), DrainAsked(D, 1, 1.0))
    assert roles(lent(table, (P, 1)))[P1] is Role.DECODE
    assert lendings(table, ((P, 1), (P1, 1)), 1.0) == ()
    assert lendings(apply(cluster(D), DrainAsked(D, 1, 1.0)), (), 1.0) == ()


def test_a_stand_in_that_dies_or_leaves_comes_back_as_what_it_was() -> None:
    table = lent(apply(cluster(P, D), DrainAsked(D, 1, 1.0)))
    for end in (WorkerDied(P, 1, "killed", 3.0), DrainAsked(P, 1, 3.0)):
        row = apply(table, end).row(P)
        assert row is not None
        assert row.lent_to is None


def test_after_a_death_nobody_is_lent() -> None:
    assert lendings(apply(cluster(P, D), WorkerDied(D, 1, "killed", 1.0)), (), 1.0) == ()


def test_late_news_of_a_loan_changes_nothing() -> None:
    table = apply(cluster(P), WorkerDied(P, 1, "killed", 1.0))
    table = apply(table, WorkerPlaced(P, Role.PREFILL, 2, 0, 2.0))
    assert apply(table, RoleLent(P, 1, Role.DECODE, 3.0)) is table


def test_a_worker_works_where_it_is_told_and_goes_back() -> None:
    table = lent(cluster(P, P1, D), own={P: Role.DECODE})
    assert roles(table) == {P: Role.DECODE, P1: Role.PREFILL, D: Role.DECODE}
    assert lendings(table, (), 3.0, {P: Role.DECODE}) == ()
    assert roles(lent(table, now=SEEN_AFTER_S)) == {
        P: Role.PREFILL,
        P1: Role.PREFILL,
        D: Role.DECODE,
    }
    away = lent(cluster(P, D, D1), own={D: Role.PREFILL}, now=SEEN_AFTER_S)
    assert roles(away) == {P: Role.PREFILL, D: Role.PREFILL, D1: Role.DECODE}


def test_nobody_stands_in_where_another_worker_decodes_for_good() -> None:
    table = lent(cluster(P, P1, D), own={P: Role.DECODE}, now=SEEN_AFTER_S + 1)
    table = apply(table, DrainAsked(D, 1, 7.0))
    assert lendings(table, (), 8.0, {P: Role.DECODE}) == ()


def test_the_last_that_decodes_has_a_stand_in_whatever_it_was_started_for() -> None:
    own = {P: Role.DECODE}
    table = lent(cluster(P, P1), own=own, now=SEEN_AFTER_S + 1)
    table = lent(apply(table, DrainAsked(P, 1, 7.0)), now=8.0, own=own)
    assert roles(table)[P1] is Role.DECODE
