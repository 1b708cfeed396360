"""The prefill ends alone: which layers leave when, and which writes are drawn for checksums."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from kv_transfer import sending
from kv_transfer.endpoint import Layout
from kv_transfer.orders import Cover, Preempt
from kv_transfer.report import Times
from kv_transfer.ticket.messages import Register, TicketKey, Withdraw, Written
from kv_transfer.ticket.states import Checking
from kv_transfer.ticket.words import Post
from tests.unit.kv_transfer.fakes import LAYOUT, layout_of
from tests.unit.kv_transfer.sender import COVER, KEY, REGISTER, Bench

QUARTERS = layout_of(4, size=64 * 1024)
"""Two blocks of two of its layers make a piece worth a write."""


def test_layers_wait_until_they_make_a_piece_worth_a_write() -> None:
    bench = Bench(QUARTERS)
    bench.open()
    bench.sending.hear("d", REGISTER)
    leaves = []
    for layers in range(1, 5):
        bench.sending.cover(COVER, layers)
        leaves.append(bench.pieces)
    both = [(0, 2, (20, 21)), (2, 2, (20, 21))]
    assert leaves == [[], both[:1], both[:1], both]


def test_the_end_of_a_step_leaves_however_small_it_is() -> None:
    bench = Bench(layout_of(4))
    bench.open()
    bench.sending.hear("d", REGISTER)
    for layers in range(1, 4):
        bench.sending.cover(COVER, layers)
    assert bench.pieces == []
    bench.sending.cover(COVER, 4)
    assert bench.pieces == [(0, 4, (20, 21))]


def test_what_was_written_does_not_make_a_piece() -> None:
    bench = Bench(QUARTERS)
    bench.open()
    bench.sending.hear("d", REGISTER)
    bench.sending.cover(Cover(KEY, 0, (1,), 1), 4)
    bench.sending.cover(COVER, 3)
    assert bench.pieces == [(0, 4, (20,))]
    bench.sending.cover(COVER, 4)
    assert bench.pieces[1:] == [(0, 4, (21,))]


def test_what_decode_holds_does_not_make_a_piece() -> None:
    bench = Bench(QUARTERS)
    bench.open()
    bench.sending.hear("d", Register(KEY, 1, (21,), 2, 10.0))
    bench.sending.cover(COVER, 3)
    assert bench.pieces == []
    bench.sending.cover(COVER, 4)
    assert bench.pieces == [(0, 4, (21,))]


def test_a_prompt_whose_layers_stay_together_leaves_by_step() -> None:
    bench = Bench(QUARTERS)
    bench.open()
    bench.sending.hear("d", REGISTER)
    together = Cover(KEY, 0, (1, 2), 2, by_layer=False)
    for layers in range(1, 4):
        bench.sending.cover(together, layers)
    assert bench.pieces == []
    bench.sending.cover(together, 4)
    assert bench.pieces == [(0, 4, (20, 21))]


def test_sums_and_notices_are_of_the_layers_that_left() -> None:
    bench = Bench(QUARTERS)
    bench.agent.memory = [[100 * layer + block for block in range(32)] for layer in range(4)]
    bench.open()
    bench.sending.hear("d", REGISTER)
    bench.sending.cover(COVER, 2)
    bench.sending.cover(COVER, 4)
    bench.sending.look_after_writes()
    assert bench.summed == [((1, 2), 0, 2), ((1, 2), 2, 2)]
    first, second = bench.agent.sums((1, 2), 0, 2), bench.agent.sums((1, 2), 2, 2)
    assert bench.network.said(Written) == [
        Written(KEY, 0, 0, 0, 2, first, 0, 2),
        Written(KEY, 0, 0, 0, 2, second, 2, 2),
    ]


def test_layers_of_an_earlier_life_are_dropped() -> None:
    bench = Bench(QUARTERS)
    bench.open()
    bench.sending.hear("d", REGISTER)
    bench.sending.cover(COVER, 2)
    bench.sending.order(Preempt(KEY))
    bench.sending.cover(COVER, 4)
    assert bench.pieces == [(0, 2, (20, 21))]
    bench.sending.cover(Cover(KEY, 1, (5, 6), 2), 4)
    assert bench.pieces[1:] == [(2, 2, (20, 21))]
    assert bench.agent.writes[1].sources == (5, 6)


def test_the_time_of_a_prompt_begins_with_its_first_write() -> None:
    bench = Bench()
    bench.open()
    bench.sending.hear("d", REGISTER)
    assert bench.clock.now() == 0
    bench.sending.cover(Cover(KEY, 0, (1,), 1), 1)
    bench.clock.advance(3)
    bench.sending.cover(COVER, 1)
    bench.clock.advance(1)
    bench.sending.look_after_writes()
    assert bench.counters.transfer.times.sum_s == 4
    assert bench.counters.exposed.times.sum_s == 1


def test_the_time_of_a_prompt_ends_with_its_last_write() -> None:
    bench = Bench(QUARTERS)
    bench.agent.held = True
    bench.open()
    bench.sending.hear("d", REGISTER)
    bench.sending.cover(COVER, 2)
    bench.sending.cover(COVER, 4)
    for write in reversed(bench.agent.writes):
        assert bench.counters.transfer.times == Times()
        bench.clock.advance(1)
        bench.agent._finish(write)
        bench.sending.look_after_writes()
    assert sum(bench.counters.transfer.times.counts) == 1
    assert bench.counters.transfer.times.sum_s == 2


def test_a_prompt_whose_last_write_ends_after_its_withdrawal_has_no_time() -> None:
    bench = Bench()
    bench.agent.held = True
    bench.open()
    bench.sending.hear("d", REGISTER)
    bench.sending.cover(Cover(KEY, 0, (1,), 1), 1)
    bench.sending.hear("d", Withdraw(KEY))
    bench.agent.held = False
    bench.sending.look_after_writes()
    assert bench.sending.phases == {"quiet": 1}
    assert bench.counters.transfer.times == bench.counters.exposed.times == Times()


# --- sampling -------------------------------------------------------------------------------------


def sampled(keys: Sequence[TicketKey], layout: Layout = LAYOUT) -> tuple[Bench, list[bool]]:
    """One write per ticket: which of them came with checksums."""
    bench = Bench(layout, Checking.SAMPLED)
    for key in keys:
        bench.open(key)
        bench.sending.hear("d", Register(key, 0, (20, 21), 2, 10.0))
        bench.sending.cover(Cover(key, 0, (1, 2), 2), layout.layers)
    bench.sending.look_after_writes()
    return bench, [bool(written.sums) for written in bench.network.said(Written)]


def test_about_one_write_in_eight_is_sampled_whatever_the_ticket() -> None:
    keys = [TicketKey(f"ticket {i}", 1) for i in range(400)]
    bench, drawn = sampled(keys)
    assert 30 <= sum(drawn) <= 75
    assert len(bench.summed) == sum(drawn)
    whole = {len(written.sums) for written in bench.network.said(Written) if written.sums}
    assert whole == {2}


def test_the_same_write_is_always_drawn_alike() -> None:
    keys = [TicketKey(f"ticket {i}", 1) for i in range(50)]
    assert sampled(keys)[1] == sampled(keys)[1]


def test_attempts_of_a_ticket_are_drawn_apart() -> None:
    drawn = sampled([TicketKey("t", epoch) for epoch in range(200)])[1]
    assert 10 <= sum(drawn) <= 45


@pytest.mark.parametrize("by", ["position", "layer"])
def test_writes_of_a_prompt_are_drawn_apart(by: str) -> None:
    count = 200
    drawn = []
    for i in range(count):
        first, layer = (i, 0) if by == "position" else (0, i)
        post = Post(0, 0, first, (1,), (1,), 1.0, layer, 1)
        drawn.append(sending._is_sampled(KEY, post))
    assert count / 20 <= sum(drawn) <= count / 4


def test_full_checks_sum_every_write() -> None:
    bench = Bench()
    for epoch in range(30):
        key = TicketKey("t", epoch)
        bench.open(key)
        bench.sending.hear("d", Register(key, 0, (20, 21), 2, 10.0))
        bench.sending.cover(Cover(key, 0, (1, 2), 2), 1)
    assert len(bench.summed) == 30
