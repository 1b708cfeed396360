"""How long writes will still take, on a clock of the test's own."""

from __future__ import annotations

import pytest

from kv_transfer.outflow import Outflow


@pytest.fixture
def flow() -> Outflow:
    """One that has written 1,000 bytes in half a second."""
    flow = Outflow()
    flow.begins(0.0)
    flow.done(1000, 0.5)
    return flow


def test_nothing_is_known_before_the_first_write_is_done() -> None:
    flow = Outflow()
    flow.begins(5.0)
    assert flow.seconds_for(1000, 6.0) == 0.0


def test_what_is_under_way_takes_as_long_as_what_was_done(flow: Outflow) -> None:
    flow.begins(0.5)
    assert flow.seconds_for(4000, 0.5) == pytest.approx(2.0)
    assert flow.seconds_for(0, 0.5) == 0.0


def test_time_without_writes_does_not_count(flow: Outflow) -> None:
    flow.begins(1000.0)
    assert flow.seconds_for(1000, 1000.0) == pytest.approx(0.5)


def test_while_nothing_leaves_the_backlog_grows_with_the_time(flow: Outflow) -> None:
    flow.begins(1.0)
    assert flow.seconds_for(1000, 31.0) == pytest.approx(30.5)
    assert flow.seconds_for(1000, 61.0) == pytest.approx(60.5)


def test_a_link_that_has_become_faster_is_soon_taken_for_it() -> None:
    flow = Outflow()
    flow.begins(0.0)
    flow.done(1000, 30.0)
    for turn in range(150):
        flow.begins(100.0 + turn)
        flow.done(1000, 100.01 + turn)
    flow.begins(300.0)
    assert flow.seconds_for(1000, 300.0) == pytest.approx(0.01, rel=0.5)


def test_a_write_that_failed_tells_no_pace(flow: Outflow) -> None:
    flow.begins(1.0)
    flow.failed(31.0)
    assert flow.seconds_for(1000, 31.0) == pytest.approx(0.5)
