"""A write that failed after it was posted may land yet: only a death releases anything."""

from __future__ import annotations

import pytest

from kv_transfer.agent import WriteState
from kv_transfer.orders import (
    Allocate,
    Begin,
    Cover,
    Done,
    Finish,
    OpenSource,
    OpenTarget,
    PeersDead,
)
from kv_transfer.ticket.messages import Closed, TicketKey
from tests.unit.kv_transfer import legs
from tests.unit.kv_transfer.fakes import Two


def doubtful() -> Two:
    """A ticket whose only write has failed under way."""
    two = Two()
    two.prefill.agent.failing = True
    legs.target(two)
    legs.prompt(two)
    two.run()
    assert [w.state for w in two.prefill.agent.writes] == [WriteState.FAILED]
    assert two.prefill.agent.writes[0].released
    return two


def assert_nothing_released(two: Two) -> None:
    assert not two.prefill.sent
    assert not two.decode.failed
    assert not two.decode.received
    assert two.network.said(Closed) == []
    assert two.open_tickets == 2


def test_neither_end_is_released() -> None:
    two = doubtful()
    two.pass_time(30)
    assert_nothing_released(two)


def test_an_abort_is_no_proof_either() -> None:
    two = doubtful()
    two.decode.mover.feed([legs.ABORT])
    two.prefill.mover.feed([legs.ABORT])
    two.pass_time(30)
    assert_nothing_released(two)


def test_what_stays_in_doubt_ends_the_engine() -> None:
    """Nobody else may ask for it: decode can have all it needs, or have left."""
    two = doubtful()
    two.pass_time(39)
    with pytest.raises(RuntimeError, match="in doubt"):
        two.pass_time(2)


def test_nothing_more_is_posted() -> None:
    two = Two()
    legs.target(two)
    legs.open_source(two)
    two.prefill.agent.failing = True
    legs.cover(two, 2)
    two.run()
    two.prefill.agent.failing = False
    legs.cover(two, 4)
    legs.finish(two)
    two.run()
    assert len(two.prefill.agent.writes) == 1
    assert_nothing_released(two)


def test_decode_accuses_prefill_and_is_free_with_its_death() -> None:
    two = doubtful()
    two.pass_time(9)
    assert two.decode.mover.report().accused == ()
    assert two.decode.mover.report().fenced_blocks == 0
    two.pass_time(1.5)
    assert two.decode.mover.report().fenced_blocks == len(legs.TARGETS)
    two.pass_time(1)
    assert two.decode.mover.report().accused == ("p",)
    assert two.decode.mover.report().quarantined_blocks == 0
    two.pass_time(20)
    report = two.decode.mover.report()
    assert (report.fenced_blocks, report.quarantined_blocks) == (4, 4)
    assert report.tickets == {"target.quarantined": 1}
    assert_nothing_released(two)
    two.decode.mover.feed([PeersDead(("p",))])
    two.pass_time(0.5)
    assert two.decode.failed == {"d1": "write deadline passed"}
    report = two.decode.mover.report()
    assert (report.accused, report.fenced_blocks, report.quarantined_blocks) == ((), 0, 0)
    assert report.ended == {"target: deadline": 1}


def test_prefill_is_free_with_the_death_of_decode() -> None:
    two = doubtful()
    two.prefill.mover.feed([PeersDead(("d",))])
    two.pass_time(0.2)
    assert two.prefill.sent == {"p1": 1}
    assert two.prefill.mover.report().ended == {"source: write_failed": 1}
    assert two.prefill.mover.report().tickets == {}


def test_the_death_of_somebody_else_is_no_proof() -> None:
    two = doubtful()
    two.prefill.agent.peers.add("somebody else")
    two.prefill.mover.feed([PeersDead(("somebody else",))])
    two.pass_time(5)
    assert two.prefill.agent.forgotten == ["somebody else"]
    assert_nothing_released(two)


def test_writes_under_way_to_a_dead_decode_are_waited_for_beside_doubts() -> None:
    two = Two()
    agent = two.prefill.agent
    legs.target(two)
    legs.open_source(two)
    agent.held = True
    legs.cover(two, 2)
    two.run()
    legs.cover(two, 4)
    legs.finish(two)
    two.run()
    agent.writes[0].state = WriteState.FAILED
    two.run()
    agent.known_dead = {"d"}
    two.pass_time(0.2)
    assert agent.forgotten == ["d"]
    assert not two.prefill.sent
    agent.writes[1].state = WriteState.FAILED
    two.prefill.turn()
    assert two.prefill.sent == {"p1": 1}
    assert two.prefill.mover._sending.tickets == 0
    assert all(write.released for write in agent.writes)


def test_other_tickets_go_on() -> None:
    two = doubtful()
    two.prefill.agent.failing = False
    key = TicketKey("other", 1)
    two.prefill.mover.feed([OpenSource(key, "p2", two.decode.endpoint)])
    two.decode.mover.feed([OpenTarget(key, "d2", two.prefill.endpoint)])
    two.decode.mover.feed([Allocate(key, 0, (1,), 1)])
    two.prefill.mover.feed([Begin(key), Done((Cover(key, 0, (5,), 1),), 1), Finish(key)])
    two.run()
    assert two.prefill.sent == {"p2": 1}
    assert two.decode.received == {"d2": 1}
    assert two.open_tickets == 2
