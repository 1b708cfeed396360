"""Decode may spend blocks once prefill has begun, or once it is certain that nothing comes."""

from __future__ import annotations

from kv_transfer.orders import Begin, PeersDead
from kv_transfer.ticket.messages import Alive
from tests.unit.kv_transfer import legs
from tests.unit.kv_transfer.fakes import Two

NO_SIGN = "prefill gives no sign of life"


def begin(two: Two) -> None:
    two.prefill.mover.feed([Begin(legs.KEY)])


def test_decode_is_admitted_when_prefill_begins() -> None:
    two = Two()
    legs.open_source(two)
    legs.open_target(two)
    two.run()
    assert two.network.said(Alive) == [Alive(legs.KEY, begun=False)]
    assert not two.decode.admitted
    begin(two)
    two.run()
    assert two.network.said(Alive)[1:] == [Alive(legs.KEY, begun=True)]
    assert two.decode.admitted == {"d1": 1}


def test_decode_is_admitted_once() -> None:
    two = Two()
    legs.open_source(two)
    legs.open_target(two)
    begin(two)
    two.pass_time(3)
    begin(two)
    two.pass_time(3)
    assert two.decode.admitted == {"d1": 1}
    legs.allocate(two)
    legs.cover(two, 4)
    legs.finish(two)
    two.run()
    assert two.decode.admitted == {"d1": 1}
    legs.assert_landed(two)


def test_signs_of_life_come_as_often_as_the_limits_say_until_decode_registers() -> None:
    two = Two()
    signs = two.limits.signs
    legs.open_source(two)
    two.run()
    two.pass_time(10 * signs.gap_s + 0.05)
    waiting = len(two.network.said(Alive))
    assert 9 <= waiting <= 11
    begin(two)
    # Time passes in steps of half that gap.
    two.pass_time(10 * signs.begun_gap_s)
    begun = len(two.network.said(Alive)) - waiting
    assert 6 <= begun <= 12
    legs.open_target(two)
    legs.allocate(two)
    two.run()
    before = len(two.network.said(Alive))
    two.pass_time(3)
    assert len(two.network.said(Alive)) == before


def test_a_lost_sign_of_life_is_made_good_by_the_next() -> None:
    two = Two()
    legs.open_source(two)
    legs.open_target(two)
    two.network.dropped = (Alive,)
    begin(two)
    two.pass_time(1)
    assert not two.decode.admitted
    two.network.dropped = ()
    two.pass_time(0.5)
    assert two.decode.admitted == {"d1": 1}


def test_a_sign_of_life_that_comes_before_the_decode_leg_is_remembered() -> None:
    two = Two()
    legs.open_source(two)
    begin(two)
    two.run()
    two.network.dropped = (Alive,)
    legs.open_target(two)
    two.run()
    assert two.decode.admitted == {"d1": 1}
    legs.allocate(two)
    legs.cover(two, 4)
    legs.finish(two)
    two.run()
    legs.assert_landed(two)
    assert two.decode.mover.counters.late_notices == 0


def test_a_prefill_that_waits_in_its_queue_is_waited_for() -> None:
    two = Two()
    legs.open_source(two)
    legs.open_target(two)
    two.pass_time(4 * two.limits.hold_s)
    assert not two.decode.admitted
    assert not two.decode.failed
    begin(two)
    two.run()
    assert two.decode.admitted == {"d1": 1}


def test_a_decode_leg_without_its_other_half_hears_of_it_in_time() -> None:
    two = Two()
    legs.open_target(two)
    two.pass_time(4.8)
    assert not two.decode.admitted
    two.pass_time(0.5)
    assert two.decode.admitted == {"d1": 1}
    assert not two.decode.failed
    legs.allocate(two)
    two.run()
    assert two.decode.failed == {"d1": NO_SIGN}
    assert two.decode.mover.counters.ended == {"target: silence": 1}
    legs.assert_over(two)


def test_a_prefill_that_comes_after_the_silence_is_let_go() -> None:
    two = Two()
    legs.open_target(two)
    two.pass_time(5.3)
    legs.prompt(two)
    two.run()
    legs.allocate(two)
    two.run()
    assert two.decode.admitted == {"d1": 1}
    assert two.decode.failed == {"d1": NO_SIGN}
    assert two.prefill.agent.writes == []
    assert two.prefill.sent == {"p1": 1}
    legs.assert_over(two)


def test_silence_is_counted_from_the_last_sign_of_life() -> None:
    two = Two()
    legs.open_source(two)
    legs.open_target(two)
    two.pass_time(3)
    two.network.dropped = (Alive,)
    two.pass_time(4)
    assert not two.decode.admitted
    two.pass_time(1.3)
    assert two.decode.admitted == {"d1": 1}


def test_a_decode_leg_that_aborts_while_it_waits_lets_prefill_go() -> None:
    two = Two()
    legs.prompt(two)
    legs.open_target(two)
    two.run()
    two.decode.mover.feed([legs.ABORT])
    two.run()
    assert two.prefill.sent == {"p1": 1}
    assert not two.decode.failed
    legs.assert_over(two)


def test_decode_hears_at_once_that_prefill_was_aborted_in_its_queue() -> None:
    two = Two()
    legs.open_source(two)
    legs.open_target(two)
    two.run()
    two.prefill.mover.feed([legs.ABORT])
    two.run()
    assert two.decode.admitted == {"d1": 1}
    legs.allocate(two)
    two.run()
    assert two.decode.failed == {"d1": "prefill closed: the leg was aborted"}
    legs.assert_over(two)


def test_decode_hears_that_prefill_died_before_it_had_blocks() -> None:
    two = Two()
    legs.open_source(two)
    legs.open_target(two)
    two.run()
    two.decode.mover.feed([PeersDead(("p",))])
    two.clock.advance(0.1)
    two.decode.turn()
    assert two.decode.admitted == {"d1": 1}
    legs.allocate(two)
    two.decode.turn()
    assert two.decode.failed == {"d1": "prefill died"}
    assert two.decode.mover.counters.ended == {"target: peer_died": 1}


def test_a_peer_that_cannot_be_read_is_certain_at_once() -> None:
    two = Two()
    legs.open_target(two, peer=b"garbage")
    two.run()
    assert two.decode.admitted == {"d1": 1}
    assert not two.decode.failed
