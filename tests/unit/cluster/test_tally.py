"""What the scaler decided and did is counted by role and reason."""

from __future__ import annotations

from baton.messages import Role
from cluster.scaling.decision import Reason, Why
from cluster.tally import ADD, BY_HAND, CHANGE_ROLE, FAULT, REASONS, REMOVE, Tally

P, D = Role.PREFILL, Role.DECODE


def _why(prefill: Reason, decode: Reason) -> tuple[Why, Why]:
    return Why(P, prefill, "p"), Why(D, decode, "d")


def test_decisions_are_counted_and_the_last_one_is_the_reason() -> None:
    tally = Tally(100.0)
    assert tally.quiet_s(103.0) == 3.0
    tally.decided(_why(Reason.STEADY, Reason.LOAD), 110.0)
    tally.decided(_why(Reason.STEADY, Reason.BLIND), 115.0)
    assert tally.quiet_s(116.0) == 1.0
    pool = tally.pool(D, (1, 4), 2.0)
    assert (pool.reason, pool.least, pool.most, pool.gpus) == ("blind", 1, 4, 2.0)
    assert pool.holds
    assert not tally.pool(P).holds
    assert [reason for reason, _ in pool.decisions] == [*REASONS]
    assert {reason: n for reason, n in pool.decisions if n} == {"load": 1, "blind": 1}
    assert dict(tally.pool(P).decisions)["steady"] == 2


def test_a_law_that_fails_holds_both_pools() -> None:
    tally = Tally(0.0)
    assert not tally.pool(P).holds
    tally.failed(1.0)
    assert [tally.pool(role).reason for role in Role] == [FAULT, FAULT]
    assert all(tally.pool(role).holds for role in Role)
    tally.ordered(2.0)
    assert not any(tally.pool(role).holds for role in Role)


def test_workers_are_counted_with_what_they_did_and_why() -> None:
    tally = Tally(0.0)
    tally.decided(_why(Reason.FEWER, Reason.LOAD), 1.0)
    tally.resized({P: 2, D: 1}, {P: 1, D: 4}, {})
    assert tally.pool(P).actions == ((REMOVE, "fewer", 1),)
    assert tally.pool(D).actions == ((ADD, "load", 3),)


def test_whoever_changes_the_pool_is_neither_added_nor_removed() -> None:
    tally = Tally(0.0)
    tally.ordered(1.0)
    tally.resized({P: 2, D: 1}, {P: 1, D: 2}, {P: 1, D: 0})
    assert tally.pool(P).actions == ((CHANGE_ROLE, BY_HAND, 1),)
    assert tally.pool(D).actions == ()
    tally.resized({P: 1, D: 2}, {P: 1, D: 3}, {P: 1})
    assert tally.pool(P).actions == ((ADD, BY_HAND, 1), (CHANGE_ROLE, BY_HAND, 2))
