"""What a worker says of itself, in each state, becomes at most one event."""

from __future__ import annotations

from dataclasses import replace

import pytest

from baton.errors import Reason
from baton.ids import WorkerId
from baton.messages import Role, WorkerState
from cluster.membership import (
    Row,
    WorkerComplained,
    WorkerDied,
    WorkerProgressed,
    WorkerReady,
    WorkerWarming,
)
from cluster.news import Reader
from cluster.ports import StartProgress
from tests.unit.cluster.samples import DIGEST, info

READER = Reader(DIGEST, 30.0)
UP = StartProgress(ready=info("decode-0", 1, Role.DECODE))
STATES = (WorkerState.STARTING, WorkerState.WARMING, WorkerState.READY)


def row(state: WorkerState, since: float = 0.0) -> Row:
    return Row(WorkerId("decode-0"), Role.DECODE, 1, 0, state, since)


def events(state: WorkerState, progress: StartProgress, now: float = 1.0, reader: Reader = READER):
    return reader.events(row(state), progress, now)


def test_whoever_is_up_is_warmed_before_it_is_ready() -> None:
    assert events(WorkerState.STARTING, StartProgress("loading")) == (
        WorkerProgressed(WorkerId("decode-0"), 1, "loading", 1.0),
    )
    assert events(WorkerState.STARTING, UP) == (WorkerWarming(UP.ready, 1.0),)
    assert events(WorkerState.WARMING, UP) == ()
    warm = replace(UP, warmed="")
    assert events(WorkerState.WARMING, warm) == (WorkerReady(UP.ready, 1.0),)


def test_what_went_wrong_is_passed_on() -> None:
    cold = replace(UP, warmed="no handover with prefill-0")
    assert events(WorkerState.WARMING, cold) == (
        WorkerReady(UP.ready, 1.0, "no handover with prefill-0"),
    )


def test_a_worker_found_by_a_second_controller_was_warmed_already() -> None:
    found = events(WorkerState.STARTING, replace(UP, warmed=""))
    assert [type(event) for event in found] == [WorkerReady]


def test_whoever_never_ends_its_first_requests_is_ready_all_the_same() -> None:
    assert events(WorkerState.WARMING, UP, 35.0) == ()
    late = WorkerReady(UP.ready, 35.1, "not warmed within 30 s")
    assert events(WorkerState.WARMING, UP, 35.1) == (late,)


def test_without_time_there_are_no_first_requests() -> None:
    found = events(WorkerState.STARTING, UP, reader=Reader(DIGEST, 0.0))
    assert found == (WorkerReady(UP.ready, 1.0),)


@pytest.mark.parametrize("state", STATES)
def test_it_may_die_in_any_state(state: WorkerState) -> None:
    (found,) = events(state, replace(UP, alive=False))
    assert isinstance(found, WorkerDied)


def test_once_ready_it_only_complains() -> None:
    (found,) = events(WorkerState.READY, replace(UP, accused=("x",), warmed=None))
    assert found == WorkerComplained(WorkerId("decode-0"), 1, ("x",), "")


def test_another_configuration_is_taken_of_whoever_was_there_before() -> None:
    old = replace(UP, ready=info("decode-0", 1, Role.DECODE, "of another version"), warmed="")
    reader = replace(READER, found=frozenset({(WorkerId("decode-0"), 1)}))
    (found,) = events(WorkerState.STARTING, old, reader=reader)
    assert isinstance(found, WorkerReady)
    (found,) = events(WorkerState.READY, old, reader=reader)
    assert isinstance(found, WorkerComplained)


@pytest.mark.parametrize("state", STATES)
def test_another_configuration_is_not_taken(state: WorkerState) -> None:
    stranger = replace(UP, ready=info("decode-0", 1, Role.DECODE, "of another version"))
    (found,) = events(state, stranger)
    assert isinstance(found, WorkerDied)
    assert found.error is not None
    assert found.error["reason"] == Reason.CONFIG_MISMATCH.value


def test_whoever_was_found_does_not_leave_its_users_for_first_requests() -> None:
    reader = replace(READER, found=frozenset({(WorkerId("decode-0"), 1)}))
    assert events(WorkerState.STARTING, UP, reader=reader) == (WorkerReady(UP.ready, 1.0),)
