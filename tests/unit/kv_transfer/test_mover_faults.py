"""Handoffs that end badly, or nearly: both ends are released, and only on proof."""

from __future__ import annotations

import pytest

from kv_transfer.orders import Abort
from kv_transfer.ticket.messages import Closed, Register, Withdraw, Written
from tests.unit.kv_transfer import legs
from tests.unit.kv_transfer.fakes import OTHER_LAYOUT, Two


@pytest.mark.parametrize(
    "before", [(legs.open_target,), (legs.target,), (legs.prompt, legs.target)]
)
@pytest.mark.parametrize("held_write", [False, True])
def test_decode_aborts(before: tuple, held_write: bool) -> None:
    two = Two()
    two.prefill.agent.held = held_write
    for leg in before:
        leg(two)
        two.run()
    two.decode.mover.feed([legs.ABORT])
    two.run()
    two.prefill.agent.held = False
    if legs.prompt not in before:
        legs.prompt(two)
    two.run()
    assert two.decode.received == ({"d1": 1} if before != (legs.open_target,) else {})
    assert two.decode.failed == {}
    assert two.prefill.sent == {"p1": 1}
    assert two.prefill.agent.writes == [] or legs.prompt in before
    legs.assert_over(two)


def test_an_aborted_decode_leg_gives_its_blocks_back_only_after_the_last_write() -> None:
    two = Two()
    two.prefill.agent.held = True
    legs.target(two)
    legs.open_source(two)
    legs.cover(two, 2)
    two.run()
    two.decode.mover.feed([legs.ABORT])
    two.pass_time(3)
    assert not two.decode.received
    two.prefill.agent.held = False
    two.run()
    assert two.decode.received == {"d1": 1}
    legs.finish(two)
    two.run()
    legs.assert_over(two)


@pytest.mark.parametrize("chunks", [0, 2])
@pytest.mark.parametrize("registered", [False, True])
def test_prefill_aborts(chunks: int, registered: bool) -> None:
    two = Two()
    legs.open_source(two)
    legs.open_target(two)
    if registered:
        legs.allocate(two)
    two.run()
    legs.cover(two, chunks)
    two.run()
    two.prefill.mover.feed([legs.ABORT])
    two.run()
    if not registered:
        legs.allocate(two)
        two.run()
    assert two.prefill.sent == {"p1": 1}
    assert "prefill closed" in two.decode.failed["d1"]
    legs.assert_over(two)


def test_prefill_that_aborts_without_blocks_has_nothing_to_release() -> None:
    two = Two()
    legs.open_source(two)
    legs.target(two)
    two.run()
    two.prefill.mover.feed([Abort(legs.KEY, "aborted in the queue")])
    two.run()
    assert not two.prefill.sent
    assert two.decode.failed == {"d1": "prefill closed: aborted in the queue"}
    legs.assert_over(two)


def test_a_withdrawn_ticket_posts_nothing_when_its_leg_comes_later() -> None:
    two = Two()
    legs.open_target(two)
    legs.allocate(two)
    two.run()
    two.decode.mover.feed([legs.ABORT])
    two.run()
    assert two.network.said(Closed) == [Closed(legs.KEY, "no such prefill leg")]
    legs.prompt(two)
    two.run()
    assert two.prefill.agent.writes == []
    assert two.prefill.sent == {"p1": 1}


def test_unlike_engines_fail_with_the_reason() -> None:
    two = Two(decode_layout=OTHER_LAYOUT)
    legs.prompt(two)
    legs.target(two)
    two.run()
    assert "fingerprint" in two.decode.failed["d1"]
    assert two.prefill.sent == {"p1": 1}
    legs.assert_over(two)


def test_a_peer_that_decode_cannot_read_fails_the_load() -> None:
    two = Two()
    legs.open_target(two, peer=b"garbage")
    legs.allocate(two)
    two.run()
    assert "unreadable" in two.decode.failed["d1"]
    assert two.open_tickets == 0


def test_a_peer_that_prefill_cannot_read_is_answered_once_it_speaks() -> None:
    two = Two()
    legs.open_source(two, peer=b"garbage")
    two.run()
    legs.target(two)
    two.run()
    assert two.decode.failed == {"d1": "prefill closed: withdrawn"}
    legs.finish(two)
    two.run()
    assert two.prefill.sent == {"p1": 1}
    legs.assert_over(two)


def test_a_write_that_was_never_posted_fails_the_load() -> None:
    two = Two()
    two.prefill.agent.refusing = True
    legs.target(two)
    legs.prompt(two)
    two.run()
    assert "write failed" in two.decode.failed["d1"]
    assert two.decode.mover.counters.ended == {"target: write_failed": 1}
    assert two.prefill.mover.counters.ended == {"source: write_failed": 1}
    assert two.prefill.sent == {"p1": 1}
    legs.assert_over(two)


def test_after_the_deadline_nothing_is_posted_and_what_was_posted_is_waited_for() -> None:
    two = Two()
    legs.target(two)
    legs.open_source(two)
    legs.cover(two, 2)
    two.prefill.agent.held = True
    two.run()
    two.clock.advance(10.5)
    legs.cover(two, 4)
    legs.finish(two)
    two.pass_time(1)
    assert len(two.prefill.agent.writes) == 1
    assert not two.prefill.sent
    assert not two.decode.failed
    two.prefill.agent.held = False
    two.pass_time(1)
    assert "deadline" in two.decode.failed["d1"]
    assert two.prefill.sent == {"p1": 1}
    legs.assert_over(two)


def test_wrong_bytes_fail_the_load() -> None:
    two = Two()
    legs.target(two)
    legs.prompt(two)
    two.network.delayed = (Written,)
    two.run()
    two.decode.agent.memory[0][22] += 1
    two.network.delayed = ()
    two.run()
    assert two.decode.failed == {"d1": "checksums differ"}
    assert two.decode.mover.counters.received == 0
    assert two.decode.mover.counters.ended == {"target: checksum": 1}
    legs.assert_over(two)


def test_late_notices_are_counted() -> None:
    two = Two()
    legs.target(two)
    legs.prompt(two)
    two.network.repeated = (Written,)
    two.run()
    assert two.decode.mover.counters.late_notices == 1
    legs.assert_landed(two)


def test_repeated_messages_change_nothing() -> None:
    two = Two()
    two.network.repeated = (Register, Withdraw, Written, Closed)
    legs.target(two)
    two.run()
    legs.open_source(two)
    for computed in (1, 2, 4):
        legs.cover(two, computed)
        two.run()
    legs.finish(two)
    two.run()
    assert len(two.prefill.agent.writes) == 3
    legs.assert_landed(two)


@pytest.mark.parametrize("kind", [Register, Written])
def test_lost_messages_end_in_a_failure_with_proof(kind: type) -> None:
    two = Two()
    two.network.dropped = (kind,)
    legs.target(two)
    legs.prompt(two)
    two.pass_time(12)
    assert two.prefill.sent == {"p1": 1}
    assert set(two.decode.failed) == {"d1"}
    legs.assert_over(two)


def test_a_lost_proof_is_asked_for_again() -> None:
    two = Two()
    two.network.dropped = (Closed,)
    legs.target(two)
    legs.open_source(two)
    two.run()
    two.decode.mover.feed([legs.ABORT])
    two.run()
    assert not two.decode.received
    two.network.dropped = ()
    two.pass_time(1)
    assert two.decode.received == {"d1": 1}


@pytest.mark.parametrize("garbage", [b"", b"\x00baton", b"\x00batonx", b"\x01\x03zz", b"hello"])
def test_garbage_changes_nothing(garbage: bytes) -> None:
    two = Two()
    legs.target(two)
    two.prefill.agent.inbox.append(("d", garbage))
    two.decode.agent.inbox.append(("stranger", garbage))
    legs.prompt(two)
    two.run()
    legs.assert_landed(two)


@pytest.mark.parametrize("chunks", [0, 2])
def test_a_dead_prefill_fails_the_load(chunks: int) -> None:
    two = Two()
    legs.target(two)
    legs.open_source(two)
    legs.cover(two, chunks)
    two.run()
    two.decode.agent.known_dead = {"p"}
    for _ in range(4):
        two.clock.advance(0.1)
        two.decode.turn()
    assert two.decode.failed == {"d1": "prefill died"}
    assert two.decode.agent.forgotten == ["p"]
    assert two.decode.mover._receiving.tickets == 0


def test_a_dead_decode_releases_prefill_once_its_writes_have_ended() -> None:
    two = Two()
    two.prefill.agent.held = True
    legs.target(two)
    legs.prompt(two)
    two.run()
    two.prefill.agent.known_dead = {"d"}
    two.clock.advance(0.1)
    two.prefill.turn()
    assert not two.prefill.sent
    two.prefill.agent.failing, two.prefill.agent.held = True, False
    two.prefill.turn()
    assert two.prefill.sent == {"p1": 1}
    assert two.prefill.mover._sending.tickets == 0
