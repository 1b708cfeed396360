"""What the law is shown adds up over routers, and is nothing unless all of them spoke."""

from __future__ import annotations

import math

import pytest

from baton.ids import WorkerId
from baton.messages import Role
from baton.signals import PoolSignals, RouterSignals
from cluster.membership import DrainAsked, RoleLent, Table, WorkerPlaced, WorkerReady, apply
from cluster.scaling.view import Signal
from cluster.sights import view_of
from cluster.supervision import Wanted
from tests.unit.cluster.samples import info

ONE = RouterSignals(
    PoolSignals(100.0, 500.0, 2.0, 0.5, (0.1, 0.9), 0.7),
    PoolSignals(40.0, 0.0, 0.0, 0.1, (), None, 0.6),
    waiting=3,
    load_age_s=1.0,
)
OTHER = RouterSignals(
    PoolSignals(60.0, 300.0, 1.0, 0.3, (0.5,), 0.8),
    PoolSignals(10.0, 200.0, 0.0, 0.2, (0.4,), None, 0.5),
    waiting=1,
    transfer_backlog_s=0.2,
)


def _table(*names: str) -> Table:
    table = Table()
    for core, name in enumerate(map(WorkerId, names)):
        role = Role(name.partition("-")[0])
        table = apply(table, WorkerPlaced(name, role, 1, core, 0.0))
        table = apply(table, WorkerReady(info(name, 1, role), 0.0))
    return table


def _view(table: Table, wanted: Wanted, *signals: RouterSignals):
    return view_of(table, wanted, signals, 0.9, 30.0)


def test_what_two_routers_measured_is_put_together() -> None:
    view = _view(_table("prefill-0", "prefill-1", "decode-0"), Wanted(2, 1), ONE, OTHER)
    assert (view.waiting, view.startup_s) == (4, 30.0)
    prefill, decode = view.prefill, view.decode
    assert prefill.arriving_tokens_per_s.value == 160.0
    assert prefill.worker_tokens_per_s.value == 400.0
    # 3 s wait in routers for two workers, and in those what the less hopeful router says.
    assert prefill.backlog_s.value == pytest.approx(1.5 + 0.5)
    assert (prefill.attained.value, prefill.predicted.value) == (0.9, 0.8)
    assert (prefill.arriving_tokens_per_s.age_s, prefill.backlog_s.age_s) == (0.0, 1.0)
    assert decode.worker_tokens_per_s.value == 200.0
    assert (decode.kv_used.value, decode.predicted) == (0.6, None)
    assert view.transfer_backlog_s.value == 0.2


def test_of_routers_that_said_nothing_nothing_is_known() -> None:
    view = _view(_table("prefill-0", "decode-0"), Wanted(1, 1))
    assert not any(signal for _, signal in (*view.prefill.signals(), *view.decode.signals()))
    assert view.transfer_backlog_s is None


def test_a_prediction_of_never_is_none() -> None:
    never = RouterSignals(PoolSignals(predicted=math.inf), PoolSignals(predicted=math.nan))
    view = _view(_table("prefill-0", "decode-0"), Wanted(1, 1), never)
    assert (view.prefill.predicted, view.decode.predicted) == (None, None)
    young = RouterSignals(PoolSignals(predicted=-0.1), PoolSignals())
    view = _view(_table("prefill-0", "decode-0"), Wanted(1, 1), young)
    assert view.prefill.predicted == Signal(0.0)


def test_workers_count_where_they_work() -> None:
    table = _table("prefill-0", "prefill-1", "decode-0", "decode-1")
    table = apply(table, RoleLent(WorkerId("prefill-0"), 1, Role.DECODE, 1.0))
    table = apply(table, DrainAsked(WorkerId("decode-1"), 1, 1.0))
    wanted = Wanted(3, 1, ((WorkerId("prefill-0"), Role.DECODE),))
    view = _view(table, wanted, ONE)
    assert (view.prefill.ready, view.prefill.starting, view.prefill.draining) == (1, 1, 0)
    assert (view.decode.ready, view.decode.starting, view.decode.draining) == (2, 0, 1)
