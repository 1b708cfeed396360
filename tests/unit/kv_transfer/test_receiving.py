"""The decode ends alone: registered once, reported once, given up on proof."""

from __future__ import annotations

import pytest

from baton.clock import ManualClock
from kv_transfer import receiving
from kv_transfer.endpoint import encode_endpoint
from kv_transfer.moving import Counters, Memory, MoverLimits
from kv_transfer.orders import Abort, Allocate, Decline, OpenTarget
from kv_transfer.receiving import Listener, Receiving
from kv_transfer.ticket.messages import Alive, Closed, Register, TicketKey, Withdraw, Written
from kv_transfer.ticket.states import Checking
from tests.unit.kv_transfer.fakes import FakeAgent, Network, layout_of

KEY = TicketKey("t", 1)
ALLOCATE = Allocate(KEY, 1, (20, 21), 3)


class Bench:
    """One Receiving and the peer that it talks to."""

    def __init__(
        self, layers: int = 1, checking: Checking = Checking.FULL, *, opened: bool = True
    ) -> None:
        self.network = Network()
        layout = layout_of(layers)
        self.agent = FakeAgent("d", self.network, layout)
        self.peer = FakeAgent("p", self.network, layout)
        for layer, row in enumerate(self.agent.memory):
            row[20:22] = [100 * layer + 7, 100 * layer + 8]
        self.clock = ManualClock()
        self.counters = Counters()
        self.received: list[str] = []
        self.failed: list[tuple[str, str]] = []
        self.admitted: list[str] = []
        listener = Listener(
            self.admitted.append, self.received.append, lambda *news: self.failed.append(news)
        )
        sums = None if checking is Checking.OFF else self.agent.sums
        memory = Memory(layout.block_bytes, layers, sums)
        rest = (self.clock, memory, self.counters, listener)
        self.receiving = Receiving(self.agent, MoverLimits(10, 5, checking), *rest)
        if opened:
            self.open()

    def open(self) -> None:
        self.receiving.open(OpenTarget(KEY, "d1", encode_endpoint(self.peer.endpoint())))

    def written(self, first: int, *sums: int) -> None:
        self.receiving.hear(Written(KEY, 0, 0, first, len(sums) or 1, sums))

    def alive(self, *, begun: bool, key: TicketKey = KEY) -> None:
        self.receiving.hear(Alive(key, begun))

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.receiving.tick(self.clock.now())


def test_blocks_are_registered_with_a_duration() -> None:
    bench = Bench()
    assert bench.network.said(Register) == []
    bench.receiving.order(ALLOCATE)
    assert bench.network.said(Register) == [Register(KEY, 1, (20, 21), 3, 10)]


def test_a_load_is_reported_when_all_has_come_and_agrees() -> None:
    bench = Bench()
    bench.receiving.order(ALLOCATE)
    bench.written(2, 8)
    assert bench.received == []
    bench.written(1, 7)
    assert (bench.received, bench.failed) == (["d1"], [])
    assert (bench.counters.received, bench.receiving.tickets) == (1, 0)
    bench.written(1, 7)
    assert (bench.received, bench.counters.late_notices) == (["d1"], 1)


def test_wrong_sums_wait_for_the_proof() -> None:
    bench = Bench()
    bench.receiving.order(ALLOCATE)
    bench.written(1, 6)
    assert bench.failed == []
    assert bench.network.said(Withdraw) == [Withdraw(KEY)]
    bench.receiving.hear(Closed(KEY, "withdrawn"))
    assert bench.failed == [("d1", "checksums differ")]
    assert bench.counters.ended == {"target: checksum": 1}


def test_missing_sums_fail_the_load() -> None:
    bench = Bench()
    bench.receiving.order(ALLOCATE)
    bench.written(1)
    bench.receiving.hear(Closed(KEY, "withdrawn"))
    assert bench.failed == [("d1", "a write came without checksums")]


def test_a_peer_that_closed_before_there_were_blocks_fails_the_load() -> None:
    bench = Bench()
    bench.receiving.hear(Closed(KEY, "aborted"))
    bench.receiving.order(ALLOCATE)
    assert bench.failed == [("d1", "prefill closed: aborted")]
    assert bench.network.said(Register) == []


def test_time_is_no_proof() -> None:
    bench = Bench()
    bench.receiving.order(ALLOCATE)
    for _ in range(60):
        bench.pass_time(5)
    assert (bench.received, bench.failed, bench.receiving.tickets) == ([], [], 1)
    assert len(bench.network.said(Withdraw)) > 5
    bench.receiving.hear(Closed(KEY, "write deadline passed"))
    assert bench.failed == [("d1", "write deadline passed")]


def test_the_death_of_the_peer_is_proof() -> None:
    bench = Bench()
    bench.receiving.order(ALLOCATE)
    assert bench.receiving.peers == {"p"}
    bench.receiving.peer_dead("somebody else")
    assert bench.failed == []
    bench.receiving.peer_dead("p")
    assert bench.failed == [("d1", "prefill died")]


def test_an_aborted_load_is_reported_as_received_after_the_proof() -> None:
    bench = Bench()
    bench.receiving.order(ALLOCATE)
    bench.receiving.order(Abort(KEY, "aborted"))
    assert bench.received == []
    bench.receiving.hear(Closed(KEY, "withdrawn"))
    assert (bench.received, bench.failed, bench.counters.received) == (["d1"], [], 0)
    assert bench.counters.ended == {"target: aborted": 1}


def test_an_abort_or_a_refusal_without_blocks_reports_nothing() -> None:
    for order in (Abort(KEY, "aborted"), Decline(KEY)):
        bench = Bench()
        bench.receiving.order(order)
        assert (bench.received, bench.failed, bench.receiving.tickets) == ([], [], 0)
        assert bench.network.said(Withdraw) == [Withdraw(KEY)]


def test_without_memory_to_sum_whatever_comes_is_taken() -> None:
    bench = Bench(checking=Checking.OFF)
    bench.receiving.order(ALLOCATE)
    bench.written(1, 1, 1)
    assert bench.received == ["d1"]


# --- admission ------------------------------------------------------------------------------------


def test_only_a_prefill_that_has_begun_admits_and_once() -> None:
    bench = Bench()
    bench.alive(begun=False)
    assert bench.admitted == []
    bench.alive(begun=True)
    bench.alive(begun=True)
    assert bench.admitted == ["d1"]


def test_another_ticket_admits_nobody() -> None:
    bench = Bench()
    bench.alive(begun=True, key=TicketKey("t", 2))
    assert bench.admitted == []


@pytest.mark.parametrize("begun", [True, False])
def test_an_early_sign_of_life_is_used_when_the_leg_comes(begun: bool) -> None:
    bench = Bench(opened=False)
    bench.alive(begun=False)
    bench.alive(begun=begun)
    bench.open()
    bench.open()
    assert bench.admitted == ["d1"] * begun
    assert bench.counters.late_notices == 0
    assert len(bench.receiving._early) == 0


def test_an_early_sign_of_life_counts_as_heard() -> None:
    bench = Bench(opened=False)
    bench.clock.advance(100)
    bench.alive(begun=False)
    bench.open()
    bench.pass_time(4.9)
    assert bench.admitted == []
    bench.pass_time(0.1)
    assert bench.admitted == ["d1"]


def test_early_signs_of_life_are_bounded_and_the_oldest_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(receiving, "_EARLY_MAX", 3)
    bench = Bench(opened=False)
    bench.alive(begun=True)
    for epoch in range(2, 12):
        bench.alive(begun=True, key=TicketKey("t", epoch))
    assert list(bench.receiving._early) == [TicketKey("t", epoch) for epoch in (9, 10, 11)]
    bench.open()
    assert bench.admitted == []


def test_an_early_end_of_prefill_is_remembered_over_its_signs_of_life() -> None:
    bench = Bench(opened=False)
    bench.alive(begun=True)
    bench.receiving.hear(Closed(KEY, "aborted"))
    assert bench.counters.late_notices == 0
    bench.open()
    assert bench.admitted == ["d1"]
    bench.receiving.order(ALLOCATE)
    assert bench.failed == [("d1", "prefill closed: aborted")]


def test_silence_lasts_as_long_as_the_limits_say() -> None:
    bench = Bench()
    bench.pass_time(0)
    bench.pass_time(4)
    bench.alive(begun=False)
    bench.pass_time(4.9)
    assert bench.admitted == []
    bench.pass_time(0.1)
    assert bench.admitted == ["d1"]
    bench.receiving.order(ALLOCATE)
    assert bench.failed == [("d1", "prefill gives no sign of life")]


@pytest.mark.parametrize("proof", ["closed", "dead"])
def test_whoever_knows_that_nothing_comes_is_admitted_to_hear_of_it(proof: str) -> None:
    bench = Bench()
    if proof == "closed":
        bench.receiving.hear(Closed(KEY, "aborted"))
    else:
        bench.receiving.peer_dead("p")
    assert (bench.admitted, bench.failed) == (["d1"], [])


# --- layers ---------------------------------------------------------------------------------------


def test_a_load_has_all_layers_of_all_positions() -> None:
    bench = Bench(layers=3)
    bench.receiving.order(ALLOCATE)
    sums = bench.agent.sums
    bench.receiving.hear(Written(KEY, 0, 0, 1, 2, sums((20, 21), 0, 1), 0, 1))
    bench.receiving.hear(Written(KEY, 0, 0, 1, 1, sums((20,), 1, 2), 1, 2))
    assert bench.received == []
    assert bench.receiving.phases == {"streaming": 1}
    bench.receiving.hear(Written(KEY, 0, 0, 2, 1, sums((21,), 1, 2), 1, 2))
    assert (bench.received, bench.failed) == (["d1"], [])


def test_checksums_are_compared_over_the_layers_that_came() -> None:
    bench = Bench(layers=3)
    bench.receiving.order(ALLOCATE)
    wrong = bench.agent.sums((20, 21), 0, 1)
    bench.receiving.hear(Written(KEY, 0, 0, 1, 2, wrong, 1, 1))
    bench.receiving.hear(Closed(KEY, "withdrawn"))
    assert bench.failed == [("d1", "checksums differ")]


# --- sampling -------------------------------------------------------------------------------------


def test_sampled_checks_take_a_write_without_sums() -> None:
    bench = Bench(checking=Checking.SAMPLED)
    bench.receiving.order(ALLOCATE)
    bench.written(1)
    bench.written(2, 8)
    assert (bench.received, bench.failed) == (["d1"], [])


def test_sampled_checks_compare_the_sums_that_come() -> None:
    bench = Bench(checking=Checking.SAMPLED)
    bench.receiving.order(ALLOCATE)
    bench.written(1)
    bench.written(2, 9)
    bench.receiving.hear(Closed(KEY, "withdrawn"))
    assert bench.failed == [("d1", "checksums differ")]


# --- complaints -----------------------------------------------------------------------------------


def test_blocks_without_proof_are_fenced_and_the_peer_accused_and_then_quarantined() -> None:
    bench = Bench()
    end = bench.receiving
    end.order(ALLOCATE)
    assert (end.fenced_blocks, end.accused) == (0, set())
    bench.pass_time(10)
    assert (end.fenced_blocks, end.quarantined_blocks, end.accused) == (2, 0, set())
    for _ in range(12):
        bench.pass_time(0.1)
    assert (end.fenced_blocks, end.quarantined_blocks, end.accused) == (2, 0, {"p"})
    assert end.phases == {"fencing": 1}
    for _ in range(30):
        bench.pass_time(1)
    assert (end.fenced_blocks, end.quarantined_blocks, end.accused) == (2, 2, {"p"})
    assert end.phases == {"quarantined": 1}
    end.peer_dead("p")
    assert (end.fenced_blocks, end.quarantined_blocks, end.accused) == (0, 0, set())
    assert (end.phases, bench.failed) == ({}, [("d1", "write deadline passed")])


def test_late_notices_of_an_open_ticket_count_when_it_closes() -> None:
    bench = Bench()
    bench.receiving.order(ALLOCATE)
    bench.written(1, 7)
    bench.written(1, 7)
    bench.written(5, 7)
    assert bench.counters.late_notices == 0
    bench.written(2, 8)
    assert (bench.received, bench.counters.late_notices) == (["d1"], 2)
