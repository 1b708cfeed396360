"""The prefill ends alone: what is posted, answered and released, and what is remembered."""

from __future__ import annotations

import pytest

from kv_transfer import sending
from kv_transfer.agent import WriteState
from kv_transfer.orders import Abort, Begin, Finish
from kv_transfer.ticket.messages import Alive, Closed, Register, TicketKey, Withdraw, Written
from tests.unit.kv_transfer.sender import COVER, KEY, REGISTER, Bench


def test_a_notice_names_what_it_covers_with_its_sums() -> None:
    bench = Bench()
    bench.open()
    bench.sending.hear("d", REGISTER)
    bench.sending.cover(COVER, 1)
    bench.sending.look_after_writes()
    assert bench.network.said(Written) == [Written(KEY, 0, 0, 0, 2, (7, 8))]
    assert (bench.sending.writes, bench.sending.tickets) == (0, 1)
    bench.sending.order(Finish(KEY))
    assert bench.sent == ["p1"]
    assert bench.sending.tickets == 0
    assert bench.network.said(Closed) == []


def test_blocks_are_released_only_when_the_write_is_done() -> None:
    bench = Bench()
    bench.agent.held = True
    bench.open()
    bench.sending.hear("d", REGISTER)
    bench.sending.cover(COVER, 1)
    bench.sending.order(Finish(KEY))
    bench.sending.look_after_writes()
    assert (bench.sent, bench.sending.writes) == ([], 1)
    bench.agent.held = False
    bench.sending.look_after_writes()
    assert bench.sent == ["p1"]


def test_a_write_that_was_never_posted_is_told() -> None:
    bench = Bench()
    bench.agent.refusing = True
    bench.open()
    bench.sending.hear("d", REGISTER)
    bench.sending.cover(COVER, 1)
    bench.sending.look_after_writes()
    (closed,) = bench.network.said(Closed)
    assert closed.reason == "write failed: write refused"
    assert (bench.counters.writes, bench.counters.bytes_written) == (0, 0)


def test_a_write_that_failed_under_way_is_told_by_nobody() -> None:
    bench = Bench()
    bench.agent.failing = True
    bench.open()
    bench.sending.hear("d", REGISTER)
    bench.sending.cover(COVER, 1)
    bench.sending.look_after_writes()
    bench.sending.order(Finish(KEY))
    bench.sending.hear("d", Withdraw(KEY))
    bench.sending.look_after_writes()
    assert bench.agent.writes[0].state is WriteState.FAILED
    assert bench.agent.writes[0].released
    assert bench.network.said(Closed) == []
    assert (bench.sent, bench.sending.writes, bench.sending.tickets) == ([], 0, 1)
    bench.sending.peer_dead("d")
    assert (bench.sent, bench.sending.tickets) == (["p1"], 0)
    assert bench.network.said(Closed) == []


def test_nothing_is_posted_at_the_deadline() -> None:
    bench = Bench()
    bench.open()
    bench.sending.hear("d", REGISTER)
    bench.clock.advance(10)
    bench.sending.cover(COVER, 1)
    assert bench.agent.writes == []
    (closed,) = bench.network.said(Closed)
    assert "deadline" in closed.reason


def test_a_proof_that_everything_was_written_is_given_to_whoever_asks() -> None:
    bench = Bench()
    bench.open()
    bench.sending.hear("d", REGISTER)
    bench.sending.cover(COVER, 1)
    bench.sending.look_after_writes()
    bench.sending.hear("d", Withdraw(KEY))
    assert bench.network.said(Closed) == [Closed(KEY, None)]


@pytest.mark.parametrize("message", [REGISTER, Withdraw(KEY)])
def test_a_released_ticket_answers_that_it_is_closed(message: Register | Withdraw) -> None:
    bench = Bench()
    bench.open()
    bench.sending.order(Abort(KEY, "aborted", held=True))
    assert bench.sent == ["p1"]
    assert bench.network.said(Closed) == [Closed(KEY, "aborted")]
    bench.sending.hear("d", message)
    assert bench.network.said(Closed)[1:] == [Closed(KEY, "no such prefill leg")]


def test_a_repeated_registration_of_a_prompt_that_was_written_whole_has_no_answer() -> None:
    bench = Bench()
    bench.open()
    bench.sending.hear("d", REGISTER)
    bench.sending.cover(COVER, 1)
    bench.sending.look_after_writes()
    bench.sending.order(Finish(KEY))
    assert bench.sent == ["p1"]
    bench.sending.hear("d", REGISTER)
    assert bench.network.said(Closed) == []
    bench.sending.hear("d", Withdraw(KEY))
    assert bench.network.said(Closed) == [Closed(KEY, "no such prefill leg")]


def test_another_epoch_is_another_ticket() -> None:
    bench = Bench()
    bench.open()
    bench.sending.hear("d", Withdraw(TicketKey("t", 2)))
    bench.sending.hear("d", REGISTER)
    bench.sending.cover(COVER, 1)
    assert len(bench.agent.writes) == 1


def test_an_early_registration_is_used_once() -> None:
    bench = Bench()
    bench.sending.hear("d", REGISTER)
    bench.sending.hear("d", REGISTER)
    bench.open()
    bench.open()
    bench.sending.cover(COVER, 1)
    assert len(bench.agent.writes) == 1


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "_EARLY_MAX", 3)
    monkeypatch.setattr(sending, "_CLOSED_MAX", 3)
    bench = Bench()
    for epoch in range(10):
        bench.sending.hear("d", Register(TicketKey("early", epoch), 0, (1,), 1, 1.0))
        bench.sending.hear("d", Withdraw(TicketKey("closed", epoch)))
    assert len(bench.sending._early) == len(bench.sending._closed) == 3


def test_an_aborted_leg_without_blocks_is_not_reported() -> None:
    bench = Bench()
    bench.open()
    bench.sending.order(Abort(KEY, "aborted in the queue"))
    assert bench.sent == []
    assert bench.sending.tickets == 0


def test_the_hold_ends_with_the_registration() -> None:
    bench = Bench()
    bench.open()
    bench.sending.order(Finish(KEY))
    bench.sending.hear("d", REGISTER)
    bench.clock.advance(6)
    bench.sending.tick(bench.clock.now())
    assert (bench.sent, bench.sending.tickets) == ([], 1)
    bench.clock.advance(5)
    bench.sending.tick(bench.clock.now())
    assert bench.sent == ["p1"]


def test_signs_of_life_follow_the_limits() -> None:
    bench = Bench()
    bench.open()
    assert bench.network.said(Alive) == [Alive(KEY, begun=False)]
    bench.clock.advance(0.9)
    bench.sending.tick(bench.clock.now())
    assert len(bench.network.said(Alive)) == 1
    bench.clock.advance(0.1)
    bench.sending.tick(bench.clock.now())
    bench.sending.order(Begin(KEY))
    assert bench.network.said(Alive)[1:] == [Alive(KEY, begun=False), Alive(KEY, begun=True)]
    bench.clock.advance(0.2)
    bench.sending.tick(bench.clock.now())
    assert bench.network.said(Alive)[3:] == [Alive(KEY, begun=True)]
    bench.sending.hear("d", REGISTER)
    bench.clock.advance(5)
    bench.sending.tick(bench.clock.now())
    assert len(bench.network.said(Alive)) == 4
