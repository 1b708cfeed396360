"""The transport self-test: what is written, when it ends, what its figure means."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from baton.clock import ManualClock
from baton.errors import BatonError, Reason
from baton.settings.model import KvTransferSettings
from kv_transfer.agent import WriteState
from kv_transfer.pair_tests import PairTests, Rules
from kv_transfer.self_test import (
    ECHO,
    PROBE,
    Floor,
    PairResult,
    PairTest,
    Sample,
    TestLimits,
    Verdict,
    Way,
    judge,
    next_blocks,
    rate,
    sentence,
)

MIB = 2**20
LIMITS = TestLimits()
WAY = Way("peer", None, "DRAM", same_host=True)


@dataclass
class Link:
    """A scratch port over a link of `gb_per_s` with a constant time per write."""

    clock: ManualClock
    gb_per_s: float = 5.0
    constant_s: float = 0.001
    connect_s: float = 0.02
    block_bytes: int = MIB
    answers: bool = True
    fails: bool = False
    refuses: bool = False
    sizes: list[int] = field(default_factory=list)
    told: list[tuple[str, bytes]] = field(default_factory=list)
    open: set[int] = field(default_factory=set)

    def write_scratch(self, peer: str, blocks: int) -> Any:
        if self.refuses:
            raise BatonError(Reason.TRANSFER_FAILED, "no way to the peer")
        self.sizes.append(blocks)
        self.open.add(len(self.sizes))
        first = self.connect_s if len(self.sizes) == 1 else 0.0
        self.ends = self.clock.now() + first + self.constant_s
        self.ends += blocks * self.block_bytes / self.gb_per_s / 1e9
        return len(self.sizes)

    def state(self, handle: int) -> WriteState:
        if self.fails:
            return WriteState.FAILED
        done = self.answers and self.clock.now() >= self.ends
        return WriteState.DONE if done else WriteState.UNDER_WAY

    def release(self, handle: int) -> None:
        self.open.remove(handle)

    def tell(self, peer: str, message: bytes) -> bool:
        self.told.append((peer, message))
        return True


@pytest.fixture
def link() -> Link:
    return Link(ManualClock())


def of(link: Link, **more: Any) -> PairTest:
    return PairTest(link, "peer", link.block_bytes, link.clock, **more)


def run(test: PairTest, link: Link, seconds: float = 30.0, turn_s: float = 0.0001) -> PairResult:
    until = link.clock.now() + seconds
    while link.clock.now() < until:
        if (result := test.turn()) is not None:
            return result
        link.clock.advance(turn_s)
    raise AssertionError("the test does not end")


def test_the_rate_is_the_link_s_without_its_constant(link: Link) -> None:
    test = of(link)
    test.heard()
    result = run(test, link)
    assert result.verdict is Verdict.OK
    assert result.gb_per_s == pytest.approx(5.0, rel=0.05)
    assert result.writes == len(link.sizes) - 1
    assert result.seconds < 0.15
    assert not link.open


def test_sizes_double_up_to_the_bound(link: Link) -> None:
    test = of(link)
    test.heard()
    run(test, link)
    assert link.sizes == [1, 1, 1, 1, 2, 4, 8, 16, 32, 32, 32]


def test_a_slow_link_is_measured_with_few_writes(link: Link) -> None:
    link.gb_per_s, link.block_bytes = 0.1, 16 * MIB
    test = of(link)
    test.heard()
    result = run(test, link)
    assert link.sizes == [1, 1, 1, 1]
    assert result.gb_per_s == pytest.approx(0.1, rel=0.05)


def test_a_very_slow_link_is_not_taken_for_silence(link: Link) -> None:
    link.gb_per_s, link.block_bytes = 0.005, 16 * MIB
    test = of(link)
    test.heard()
    assert run(test, link, turn_s=0.01).gb_per_s == pytest.approx(0.005, rel=0.05)


def test_a_block_larger_than_the_bound_is_written_alone(link: Link) -> None:
    link.block_bytes = 40 * MIB
    test = of(link)
    test.heard()
    result = run(test, link)
    assert link.sizes == [1, 1, 1, 1]
    assert result.gb_per_s == pytest.approx(5.0, rel=0.2)


def test_a_peer_that_never_answers_is_silent_and_nothing_is_written(link: Link) -> None:
    result = run(of(link), link)
    assert result.verdict is Verdict.SILENT
    assert "gave no answer" in result.why
    assert result.seconds == pytest.approx(5.0, abs=0.1)
    assert link.sizes == []
    assert 10 < len(link.told) < 30
    assert set(link.told) == {("peer", PROBE)}


def test_a_peer_that_stops_in_between_is_silent_and_the_handle_is_released(link: Link) -> None:
    test = of(link)
    test.heard()
    while len(link.sizes) < 5:
        assert test.turn() is None
        link.clock.advance(0.0001)
    link.answers = False
    result = run(test, link, turn_s=0.1)
    assert result.verdict is Verdict.SILENT
    assert "took no write" in result.why
    assert not link.open


@pytest.mark.parametrize("how", ["fails", "refuses"])
def test_a_write_that_cannot_be_made(link: Link, how: str) -> None:
    setattr(link, how, True)
    test = of(link)
    test.heard()
    result = run(test, link)
    assert (result.verdict, result.gb_per_s, result.writes) == (Verdict.FAILED, 0.0, 0)
    assert result.why
    assert not link.open


def test_an_abandoned_test_holds_nothing(link: Link) -> None:
    test = of(link)
    test.turn()
    test.abandon()
    test.heard()
    test.turn()
    assert link.open
    test.abandon()
    assert not link.open


@pytest.mark.parametrize(
    ("samples", "wanted"),
    [
        ([], 1),
        ([Sample(1, 0.001)], 1),
        ([Sample(1, 0.001)] * 3, 2),
        ([Sample(1, 0.001)] * 3 + [Sample(16, 0.01)], 32),
        ([Sample(16, 0.03)], 16),
        ([Sample(16, 0.03)] * 3, None),
        ([Sample(32, 0.001)] * 3, None),
        ([Sample(16, 0.1), Sample(16, 0.01)], 32),
        ([Sample(1, 0.3)], 1),
        ([Sample(1, 0.3)] * 2, None),
    ],
)
def test_the_next_write(samples: list[Sample], wanted: int | None) -> None:
    assert next_blocks(samples, MIB, LIMITS) == wanted


def test_the_constant_never_makes_more_than_twice_the_rate() -> None:
    samples = [Sample(1, 0.005), Sample(32, 0.005)]
    assert rate(samples, MIB) == pytest.approx(2 * 32 * MIB / 0.005 / 1e9)
    assert rate([], MIB) == 0.0


@pytest.mark.parametrize(
    ("measured", "floor", "verdict"),
    [
        (1.0, Floor(), Verdict.OK),
        (1.0, Floor(1.0), Verdict.OK),
        (0.9, Floor(1.0), Verdict.SLOW),
        (0.9, Floor(1.0, refuse=True), Verdict.REFUSED),
        (0.0, Floor(0.0, refuse=True), Verdict.OK),
    ],
)
def test_what_a_rate_means(measured: float, floor: Floor, verdict: Verdict) -> None:
    assert judge(measured, floor) is verdict
    assert verdict.usable == (verdict is not Verdict.REFUSED)


def test_the_floor_comes_from_the_settings() -> None:
    settings = KvTransferSettings(min_gb_per_second=3, on_slow_transport="refuse")
    assert Floor.of(settings) == Floor(3, refuse=True)
    assert Floor.of(KvTransferSettings()) == Floor(0, refuse=False)


@pytest.mark.parametrize(
    ("way", "words"),
    [
        (Way("abc", "tcp", "VRAM", same_host=True), ["GPU memory", "UCX_TLS=tcp", "cuda_ipc"]),
        (Way("abc", None, "DRAM", same_host=True), ["host memory", "UCX's choice", "cma"]),
        (Way("abc", None, "DRAM", same_host=False), ["another host", "RDMA"]),
    ],
)
def test_the_sentence_says_rate_floor_peer_transport_and_advice(way: Way, words: list[str]) -> None:
    refused = sentence(PairResult(0.5, 9, 0.1, Verdict.REFUSED), Floor(10, refuse=True), way)
    for word in [*words, "0.5 GB/s", "min_gb_per_second = 10", "abc", "nothing is handed over"]:
        assert word in refused
    silent = sentence(PairResult(0, 0, 5, Verdict.SILENT, "gave no answer"), Floor(), way)
    assert "abc" in silent
    assert "gave no answer" in silent


# -- all peers of an engine


@pytest.fixture
def tests(link: Link) -> PairTests:
    return PairTests(link, link.clock, Rules(MIB, Floor(10, refuse=True)), lambda _: WAY)


def turn_until_idle(tests: PairTests, link: Link) -> None:
    while tests.busy:
        tests.turn()
        link.clock.advance(0.0001)


def test_a_pair_is_tested_once_and_refused(tests: PairTests, link: Link) -> None:
    tests.want("peer")
    tests.want("peer")
    assert tests.pending("peer")
    assert tests.refusal("peer") is None
    assert tests.hear("peer", ECHO)
    turn_until_idle(tests, link)
    assert not tests.pending("peer")
    assert "below kv_transfer.min_gb_per_second" in (tests.refusal("peer") or "")
    assert tests.gb_per_s == {"peer": pytest.approx(5.0, rel=0.05)}
    tests.want("peer")
    assert not tests.busy


def test_a_refused_pair_is_tested_again_later(tests: PairTests, link: Link) -> None:
    tests.want("peer")
    tests.hear("peer", ECHO)
    turn_until_idle(tests, link)
    link.clock.advance(10)
    link.gb_per_s = 50
    tests.want("peer")
    assert tests.refusal("peer") is not None
    tests.hear("peer", ECHO)
    turn_until_idle(tests, link)
    assert tests.refusal("peer") is None
    link.clock.advance(100)
    tests.want("peer")
    assert not tests.busy


def test_tests_run_one_after_the_other(tests: PairTests, link: Link) -> None:
    for peer in ("one", "two"):
        tests.want(peer)
        tests.hear(peer, ECHO)
    while "one" not in tests.gb_per_s:
        tests.turn()
        link.clock.advance(0.0001)
    assert tests.pending("two")
    turn_until_idle(tests, link)
    assert set(tests.gb_per_s) == {"one", "two"}


def test_probes_are_answered_and_tickets_messages_are_not_ours(
    tests: PairTests, link: Link
) -> None:
    assert tests.hear("peer", PROBE)
    assert link.told == [("peer", ECHO)]
    assert tests.busy
    link.clock.advance(0.5)
    assert not tests.busy
    assert not tests.hear("peer", b"\x91register")


def test_a_forgotten_peer_leaves_nothing(tests: PairTests, link: Link) -> None:
    tests.want("peer")
    tests.hear("peer", ECHO)
    for _ in range(3):
        tests.turn()
    tests.forget("peer")
    assert not link.open
    assert not tests.busy
    tests.want("peer")
    tests.hear("peer", ECHO)
    tests.turn()
    tests.close()
    assert not link.open
