"""Whole handoffs between two movers, chunk by chunk and in either order."""

from __future__ import annotations

import pytest

from kv_transfer.moving import MoverLimits
from kv_transfer.orders import (
    Allocate,
    Begin,
    Cover,
    Decline,
    Done,
    Finish,
    OpenSource,
    OpenTarget,
    Preempt,
)
from kv_transfer.ticket.messages import Closed, TicketKey, Written
from kv_transfer.ticket.states import Checking
from tests.unit.kv_transfer import legs
from tests.unit.kv_transfer.fakes import Two


def test_a_handoff_leaves_chunk_by_chunk() -> None:
    two = Two()
    legs.open_source(two)
    legs.target(two)
    two.run()
    for computed in (1, 3, 4):
        legs.cover(two, computed)
        two.run()
    legs.finish(two)
    two.run()
    assert [w.targets for w in two.prefill.agent.writes] == [(20,), (21, 22), (23,)]
    assert two.prefill.mover.counters.writes == 3
    assert two.prefill.mover.counters.bytes_written == 4 * 64
    assert two.decode.mover.counters.received == 1
    assert two.network.said(Closed) == []
    legs.assert_landed(two)


def test_a_chunk_leaves_before_the_prompt_has_ended() -> None:
    two = Two()
    legs.open_source(two)
    legs.target(two)
    legs.cover(two, 2)
    two.run()
    assert two.decode.agent.content(legs.TARGETS) == [[1010, 1011, 0, 0]]
    assert not two.prefill.sent
    assert not two.decode.received


def test_what_decode_holds_is_not_written() -> None:
    two = Two()
    legs.open_target(two)
    legs.allocate(two, first=3)
    legs.prompt(two)
    two.run()
    assert [w.targets for w in two.prefill.agent.writes] == [(23,)]
    legs.assert_landed(two, first=3)


def test_one_step_may_cover_several_prompts() -> None:
    two = Two()
    other = TicketKey("other", 1)
    legs.target(two)
    legs.open_source(two)
    two.prefill.mover.feed([OpenSource(other, "p2", two.decode.endpoint)])
    two.decode.mover.feed([OpenTarget(other, "d2", two.prefill.endpoint)])
    two.decode.mover.feed([Allocate(other, 0, (1,), 1)])
    two.run()
    covers = (Cover(legs.KEY, 0, legs.SOURCES, 4), Cover(other, 0, (5,), 1))
    two.prefill.mover.feed([Done(covers, 1), Finish(legs.KEY), Finish(other)])
    two.run()
    assert two.decode.received == {"d1": 1, "d2": 1}
    assert two.prefill.sent == {"p1": 1, "p2": 1}
    assert two.decode.agent.content([1]) == [[1005]]


@pytest.mark.parametrize("prefill_first", [True, False])
def test_either_leg_may_come_first(prefill_first: bool) -> None:
    two = Two()
    both = (legs.prompt, legs.target) if prefill_first else (legs.target, legs.prompt)
    for leg in both:
        leg(two)
        two.run()
    assert two.network.hellos() <= 2
    legs.assert_landed(two)


def test_a_target_that_never_comes_is_waited_for_so_long() -> None:
    two = Two()
    legs.prompt(two)
    two.pass_time(4.8)
    assert not two.prefill.sent
    two.pass_time(0.5)
    assert two.prefill.sent == {"p1": 1}
    assert two.prefill.agent.writes == []
    legs.target(two)
    two.run()
    assert two.decode.failed == {"d1": "prefill closed: no target registered in time"}
    legs.assert_over(two)


def test_a_preempted_prompt_goes_on_where_it_was() -> None:
    two = Two()
    legs.open_source(two)
    legs.target(two)
    legs.cover(two, 2)
    two.run()
    two.prefill.mover.feed([Preempt(legs.KEY), Done((Cover(legs.KEY, 0, legs.SOURCES, 4),), 1)])
    two.run()
    assert len(two.prefill.agent.writes) == 1
    two.prefill.mover.feed([Done((Cover(legs.KEY, 1, (5, 6, 7, 8), 4),), 1), Finish(legs.KEY)])
    two.run()
    assert [w.sources for w in two.prefill.agent.writes] == [(10, 11), (7, 8)]
    assert two.decode.received == {"d1": 1}
    legs.assert_over(two)


def test_decode_that_needs_nothing_lets_prefill_go() -> None:
    two = Two()
    legs.prompt(two)
    legs.open_target(two)
    two.decode.mover.feed([Decline(legs.KEY)])
    two.run()
    assert two.prefill.sent == {"p1": 1}
    assert not two.decode.received
    legs.assert_over(two)


def test_without_checks_no_sums_are_computed() -> None:
    two = Two(limits=MoverLimits(10.0, 5.0, Checking.OFF))
    legs.target(two)
    legs.prompt(two)
    two.run()
    assert [m.sums for m in two.network.said(Written)] == [()]
    legs.assert_landed(two)


def test_results_are_handed_out_once() -> None:
    two = Two()
    legs.target(two)
    legs.prompt(two)
    two.run()
    assert two.decode.mover.take().received == set()
    assert two.prefill.mover.take().sent == set()
    legs.assert_landed(two)


def test_an_order_for_an_unknown_ticket_changes_nothing() -> None:
    two = Two()
    done = Done((Cover(legs.KEY, 0, legs.SOURCES, 4),), 1)
    two.prefill.mover.feed([Begin(legs.KEY), done, Preempt(legs.KEY), Finish(legs.KEY), legs.ABORT])
    two.decode.mover.feed([Allocate(legs.KEY, 0, legs.TARGETS, 4), Decline(legs.KEY)])
    two.run()
    assert two.network.sent == []
    assert two.open_tickets == 0


def test_whoever_waits_for_results_gets_those_that_are_there_at_once() -> None:
    two = Two()
    legs.target(two)
    legs.prompt(two)
    for _ in range(6):
        two.prefill.mover.turn()
        two.decode.mover.turn()
        two.network.deliver()
    assert two.decode.mover.take(60.0).received == {"d1"}
    assert two.prefill.mover.take(60.0).sent == {"p1"}
    assert two.decode.mover.take(0.0).received == set()
