"""When a worker that takes nothing new may go."""

import pytest

from baton.clock import ManualClock
from deploy.delivered import Delivered
from kv_transfer.report import TransferReport

QUIET = TransferReport()
SENDING = TransferReport(tickets={"source.streaming": 1})


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def test_not_while_a_leg_runs(clock: ManualClock) -> None:
    assert not Delivered(clock).all(1, None)
    assert Delivered(clock).all(0, None)


def test_not_while_its_kv_is_on_its_way(clock: ManualClock) -> None:
    delivered = Delivered(clock)
    clock.advance(100)
    assert not delivered.all(0, SENDING)
    clock.advance(100)
    assert not delivered.all(0, SENDING)
    assert delivered.all(0, QUIET)


def test_not_before_a_report_from_after_the_last_leg(clock: ManualClock) -> None:
    delivered = Delivered(clock)
    assert not delivered.all(0, QUIET)
    clock.advance(0.9)
    assert not delivered.all(1, QUIET)
    assert not delivered.all(0, QUIET)
    clock.advance(0.9)
    assert not delivered.all(0, QUIET)
    clock.advance(0.2)
    assert delivered.all(0, QUIET)


def test_what_it_receives_keeps_it_from_nothing(clock: ManualClock) -> None:
    delivered = Delivered(clock)
    ends = TransferReport(tickets={"source.streaming": 0, "target.fenced": 2})
    delivered.all(0, ends)
    clock.advance(1.0)
    assert delivered.all(0, ends)
