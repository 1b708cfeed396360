"""A worker asks for a peer's death, or for its own replacement: who is ended, and who is not."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from baton.errors import Reason
from baton.ids import WorkerId
from baton.messages import Role, WorkerState
from cluster.membership import (
    DrainAsked,
    Row,
    Table,
    WorkerComplained,
    WorkerDied,
    WorkerPlaced,
    WorkerProgressed,
    WorkerReady,
    WorkerStopped,
    apply,
    check_invariants,
)
from cluster.supervision import (
    DeclareDead,
    Limits,
    Memory,
    Place,
    Stop,
    Wanted,
    decide,
)
from tests.unit.cluster.samples import agent, info

LIMITS = Limits(start_timeout_s=100.0, backoff_s=1.0, backoff_max_s=8.0)
LATER = Memory(was_complete=True)
P, P1, D, D1 = (WorkerId(n) for n in ("prefill-0", "prefill-1", "decode-0", "decode-1"))


def cluster(*names: WorkerId) -> Table:
    table = Table()
    for core, name in enumerate(names):
        role = Role(name.partition("-")[0])
        table = apply(table, WorkerPlaced(name, role, 1, core, 0.0))
        table = apply(table, WorkerReady(info(name, 1, role), 0.0))
    return table


def complain(table: Table, who: WorkerId, *accused: str, worn_out: str = "") -> Table:
    row = table.row(who)
    assert row is not None
    return apply(table, WorkerComplained(who, row.incarnation, accused, worn_out))


def decided(table: Table, memory: Memory = LATER, now: float = 1.0, wanted: Wanted | None = None):
    if wanted is None:
        roles = [row.role for row in table.rows]
        wanted = Wanted(roles.count(Role.PREFILL), roles.count(Role.DECODE))
    return decide(table, wanted, LIMITS, memory, now)


def test_the_accused_start_is_ended_with_its_reason() -> None:
    table = complain(cluster(P, P1, D), D, agent(P1, 1))
    (action,), _ = decided(table)
    assert isinstance(action, DeclareDead)
    assert (action.worker_id, action.incarnation) == (P1, 1)
    assert action.error.reason is Reason.TRANSFER_FAILED
    assert D in action.error.message


def test_a_draining_worker_is_ended_too() -> None:
    table = apply(complain(cluster(P, D), D, agent(P, 1)), DrainAsked(P, 1, 1.0))
    (action,), _ = decided(table, wanted=Wanted(0, 1))
    assert isinstance(action, DeclareDead)


def test_who_is_gone_or_restarted_is_not_accused_any_more() -> None:
    table = complain(cluster(P, D), D, agent(P, 1))
    table = apply(table, WorkerDied(P, 1, "killed", 1.0))
    assert decided(table)[0] == ()
    table = apply(table, WorkerPlaced(P, Role.PREFILL, 2, 0, 2.0))
    assert decided(table)[0] == ()
    table = apply(table, WorkerReady(info(P, 2, Role.PREFILL), 3.0))
    assert decided(table)[0] == ()


def test_strangers_oneself_and_nameless_engines_are_not_ended() -> None:
    table = complain(cluster(P, D), D, "stranger", agent(D, 1), "")
    assert decided(table)[0] == ()
    nameless = replace(info(P, 1, Role.PREFILL), transfer_agent="")
    rows = tuple(replace(r, info=nameless) if r.worker_id == P else r for r in table.rows)
    assert decided(replace(table, rows=rows))[0] == ()


def test_an_accusation_ends_with_whoever_made_it() -> None:
    for event in (DrainAsked(D, 1, 1.0), WorkerDied(D, 1, "killed", 1.0)):
        table = apply(complain(cluster(P, D, D1), D, agent(P, 1)), event)
        actions, _ = decided(table)
        assert not any(isinstance(action, DeclareDead) for action in actions)


def test_of_two_that_accuse_each_other_one_is_ended() -> None:
    table = complain(complain(cluster(P, D), D, agent(P, 1)), P, agent(D, 1))
    actions, _ = decided(table)
    assert [type(action) for action in actions] == [DeclareDead]


def test_who_accuses_everybody_is_replaced_itself() -> None:
    names = [WorkerId(f"prefill-{n}") for n in range(LIMITS.accusations_max + 2)]
    table = complain(cluster(*names, D), D, *(agent(name, 1) for name in names))
    actions, memory = decided(table)
    ended = [a.worker_id for a in actions if isinstance(a, DeclareDead)]
    assert ended == names[: LIMITS.accusations_max]
    (stop,) = [a for a in actions if isinstance(a, Stop)]
    assert stop.worker_id == D
    # After a while it is trusted again.
    later = LIMITS.accusations_window_s + 2.0
    actions, _ = decided(table, memory, later)
    assert sum(isinstance(a, DeclareDead) for a in actions) == LIMITS.accusations_max


def test_who_is_overdue_or_unwanted_and_accused_is_ended_once() -> None:
    table = complain(cluster(P, D), D, agent(P, 1))
    actions, _ = decided(table, wanted=Wanted(0, 1))
    assert [type(action) for action in actions] == [DeclareDead]
    starting = apply(Table(), WorkerPlaced(P, Role.PREFILL, 1, 0, 0.0))
    actions, _ = decided(starting, now=101.0, wanted=Wanted(0, 0))
    assert [type(action) for action in actions] == [DeclareDead]


def test_the_worn_out_are_replaced_one_by_one() -> None:
    table = cluster(P, D, D1)
    for name in (D, D1):
        table = complain(table, name, worn_out="11 of its 100 KV blocks are quarantined")
    (stop,), memory = decided(table)
    assert stop == Stop(D, 1, "11 of its 100 KV blocks are quarantined")
    table = apply(table, DrainAsked(D, 1, 2.0))
    assert decided(table, memory, 3.0)[0] == ()
    table = apply(table, WorkerStopped(D, 1, 4.0))
    actions, memory = decided(table, memory, 4.0)
    assert [type(action) for action in actions] == [Stop, Place]


def test_the_worn_out_do_not_wait_for_whoever_has_no_machine() -> None:
    table = complain(cluster(P, D), D, worn_out="11 of its 100 KV blocks are quarantined")
    table = apply(table, WorkerPlaced(D1, Role.DECODE, 1, 2, 0.0))
    assert decided(table)[0] == ()
    table = apply(table, WorkerProgressed(D1, 1, "waits for 1 GPU", 0.0, waits=True))
    (stop,), _ = decided(table)
    assert stop == Stop(D, 1, "11 of its 100 KV blocks are quarantined")


@given(
    st.lists(
        st.tuples(
            st.sampled_from((P, P1, D, D1)),
            st.lists(st.sampled_from((P, P1, D, D1)), max_size=4),
            st.integers(0, 3),
            st.booleans(),
        ),
        max_size=30,
    )
)
def test_nobody_is_ended_twice_or_without_being_named(
    steps: list[tuple[WorkerId, list[WorkerId], int, bool]],
) -> None:
    """Any complaints in any order; what is decided is carried out at once, as the crew does."""
    table, memory, now = cluster(P, P1, D, D1), LATER, 0.0
    ended: set[tuple[WorkerId, int]] = set()
    for who, accused, incarnation, worn_out in steps:
        now += 5.0
        row = table.row(who)
        if row is not None and row.state is WorkerState.READY:
            names = [agent(name, incarnation) for name in accused]
            table = complain(table, who, *names, worn_out="worn" if worn_out else "")
        standing = {name: r.worker_id for r in table.rows for name in r.accused}
        actions, memory = decide(table, Wanted(2, 2), LIMITS, memory, now)
        ends = [a for a in actions if isinstance(a, DeclareDead | Stop)]
        assert len({a.worker_id for a in ends}) == len(ends)
        for action in ends:
            target = table.row(action.worker_id)
            assert isinstance(target, Row)
            assert target.info is not None
            if isinstance(action, DeclareDead):
                assert target.info.transfer_agent in standing
                assert (action.worker_id, action.incarnation) not in ended
                ended.add((action.worker_id, action.incarnation))
                event = WorkerDied(action.worker_id, action.incarnation, "sentenced", now)
                table = apply(table, event)
            else:
                table = apply(table, DrainAsked(action.worker_id, action.incarnation, now))
                table = apply(table, WorkerStopped(action.worker_id, action.incarnation, now))
        for action in actions:
            if isinstance(action, Place):
                p = action.placement
                placed = WorkerPlaced(p.worker_id, p.role, p.incarnation, p.core_index, now)
                table = apply(apply(table, placed), WorkerReady(info(*_who(p)), now))
        check_invariants(table)
        assert all(len(times) <= LIMITS.accusations_max for times in memory.believed.values())


def _who(placement) -> tuple[WorkerId, int, Role]:
    return placement.worker_id, placement.incarnation, placement.role
