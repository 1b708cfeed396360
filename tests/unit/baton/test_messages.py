"""A view names the workers that may get new requests."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import pytest

from baton.ids import WorkerId
from baton.messages import ClusterView, Member, Role, Ticket, WorkerLoad, WorkerState
from tests.fakes.worker import info

READY = Member(WorkerId("decode-0"), Role.DECODE, WorkerState.READY, info())


def test_a_ready_worker_of_the_role_is_named() -> None:
    view = ClusterView(1, (READY,))
    assert view.ready(Role.DECODE) == (info(),)
    assert view.ready(Role.PREFILL) == ()


@pytest.mark.parametrize("state", [s for s in WorkerState if s is not WorkerState.READY])
def test_a_worker_in_another_state_is_not(state: WorkerState) -> None:
    assert ClusterView(1, (replace(READY, state=state),)).ready(Role.DECODE) == ()


def test_a_worker_without_facts_is_not() -> None:
    assert ClusterView(1, (replace(READY, info=None),)).ready(Role.DECODE) == ()


def test_order_is_kept_and_an_empty_view_names_nobody() -> None:
    second = replace(READY, info=replace(info(), worker_id=WorkerId("decode-1")))
    found = ClusterView(1, (second, READY)).ready(Role.DECODE)
    assert [each.worker_id for each in found] == ["decode-1", "decode-0"]
    assert ClusterView(0).ready(Role.DECODE) == ()


def test_an_engine_ends_with_the_processes_of_its_ranks_if_they_are_known() -> None:
    engine = replace(info(), engine_pid=5, engine_started=6)
    assert engine.engine_processes == ((5, 6),)
    engine = replace(engine, engine_ranks=((7, 8), (9, 10)))
    assert engine.engine_processes == ((5, 6), (7, 8), (9, 10))
    assert replace(engine, engine_started=0).engine_processes == ()


@pytest.mark.parametrize("value", [READY, info(), Ticket("t", 1, 2.0, b"x"), WorkerLoad(running=1)])
def test_messages_are_frozen_and_cross_processes(value: Any) -> None:
    assert pickle.loads(pickle.dumps(value)) == value
    with pytest.raises(FrozenInstanceError):
        setattr(value, fields(value)[0].name, 1)
