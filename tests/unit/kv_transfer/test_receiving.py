"""The decode ends alone: registered once, reported once, given up on proof."""

from __future__ import annotations

from baton.clock import ManualClock
from kv_transfer.endpoint import encode_endpoint
from kv_transfer.moving import Counters, Memory, MoverLimits
from kv_transfer.orders import Abort, Allocate, Decline, OpenTarget
from kv_transfer.receiving import Listener, Receiving
from kv_transfer.ticket.words import Closed, Register, TicketKey, Withdraw, Written
from tests.unit.kv_transfer.fakes import FakeAgent, Network

KEY = TicketKey("t", 1)
ALLOCATE = Allocate(KEY, 1, (20, 21), 3)


class Bench:
    """One Receiving and the peer that it talks to."""

    def __init__(self, *, sums: bool = True) -> None:
        self.network = Network()
        self.agent = FakeAgent("d", self.network)
        self.peer = FakeAgent("p", self.network)
        self.agent.memory[20:22] = [7, 8]
        self.clock = ManualClock()
        self.counters = Counters()
        self.received: list[str] = []
        self.failed: list[tuple[str, str]] = []
        listener = Listener(self.received.append, lambda *news: self.failed.append(news))
        memory = Memory(64, self.agent.sums if sums else None)
        limits = MoverLimits(write_deadline_s=10, hold_s=5)
        rest = (self.clock, memory, self.counters, listener)
        self.receiving = Receiving(self.agent, limits, *rest)
        self.receiving.open(OpenTarget(KEY, "d1", encode_endpoint(self.peer.endpoint())))

    def written(self, first: int, *sums: int) -> None:
        self.receiving.hear(Written(KEY, 0, 0, first, len(sums) or 1, sums))

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
    assert (bench.counters.landed, bench.receiving.tickets) == (1, 0)
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
    assert bench.counters.failed == 1


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
    assert (bench.received, bench.failed, bench.counters.landed) == (["d1"], [], 0)


def test_an_abort_or_a_refusal_without_blocks_reports_nothing() -> None:
    for order in (Abort(KEY, "aborted"), Decline(KEY)):
        bench = Bench()
        bench.receiving.order(order)
        assert (bench.received, bench.failed, bench.receiving.tickets) == ([], [], 0)
        assert bench.network.said(Withdraw) == [Withdraw(KEY)]


def test_without_memory_to_sum_whatever_comes_is_taken() -> None:
    bench = Bench(sums=False)
    bench.receiving.order(ALLOCATE)
    bench.written(1, 1, 1)
    assert bench.received == ["d1"]
