"""What both ends of a mover share: introductions, limits, times, words for reasons."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kv_transfer.endpoint import decode_endpoint, encode_endpoint
from kv_transfer.moving import (
    HELLO,
    Counters,
    Memory,
    MoverLimits,
    Results,
    Stopwatch,
    connect,
    word_of,
)
from kv_transfer.report import SECONDS_BOUNDS, Times
from kv_transfer.ticket import codec
from kv_transfer.ticket.states import Checking, Patience
from tests.unit.kv_transfer.fakes import LAYOUT, OTHER_LAYOUT, FakeAgent, Network, joined_endpoint

MEMORY = Memory(64)


def agents() -> tuple[FakeAgent, FakeAgent, Network]:
    network = Network()
    return FakeAgent("one", network), FakeAgent("other", network), network


def test_a_new_peer_is_told_who_we_are_and_a_known_one_is_not() -> None:
    one, other, network = agents()
    endpoint = encode_endpoint(other.endpoint())
    assert connect(one, endpoint, MEMORY) == ("other", None)
    assert connect(one, endpoint, MEMORY) == ("other", None)
    (letter,) = network.sent
    assert letter.receiver == "other"
    assert decode_endpoint(letter.data.removeprefix(HELLO)) == one.endpoint()


def test_an_unreadable_peer_has_no_name_and_a_reason() -> None:
    one, _, network = agents()
    name, fault = connect(one, b"garbage", MEMORY)
    assert name == ""
    assert "unreadable" in (fault or "")
    assert network.sent == []


def test_an_unlike_peer_has_no_name_and_a_reason() -> None:
    one, _, network = agents()
    unlike = FakeAgent("unlike", network, OTHER_LAYOUT)
    name, fault = connect(one, encode_endpoint(unlike.endpoint()), MEMORY)
    assert name == ""
    assert "fingerprint" in (fault or "")
    assert network.sent == []


def test_each_rank_knows_its_equal_alone() -> None:
    networks = [Network(), Network()]
    layouts = [replace(LAYOUT, rank=rank, ranks=2) for rank in range(2)]
    endpoint = joined_endpoint(
        FakeAgent("d", n, layout) for n, layout in zip(networks, layouts, strict=True)
    )
    one = FakeAgent("p", networks[1], layouts[1])
    assert connect(one, endpoint, Memory(64, rank=1, ranks=2)) == ("d", None)
    assert one.connected["d"].layout == layouts[1]
    (letter,) = networks[1].sent
    mine = letter.data.removeprefix(HELLO)
    assert connect(networks[1].agents["d"], mine, Memory(64, rank=1, ranks=2)) == ("p", None)


def test_an_engine_of_another_tensor_parallel_size_is_refused_with_what_to_do() -> None:
    one, other, network = agents()
    two_ranks = replace(LAYOUT, ranks=2)
    for agent, layout, memory in ((other, LAYOUT, Memory(64, ranks=2)), (one, two_ranks, MEMORY)):
        agent.layout = layout
        name, fault = connect(one, encode_endpoint(agent.endpoint()), memory)
        assert name == ""
        assert "tensor-parallel size" in (fault or "")
        assert "vllm-nixl-pull" in (fault or "")
    assert network.sent == []


def test_an_introduction_is_no_message_of_a_ticket() -> None:
    assert HELLO[0] != codec.VERSION


def test_checks_are_full_unless_said_otherwise() -> None:
    assert MoverLimits(1, 1).checking is Checking.FULL
    assert Results() == Results(sent=set(), admitted=set(), received=set(), failed={})


@pytest.mark.parametrize("hold_s", [0.1, 1.0, 5.0, 60.0])
def test_several_signs_of_life_come_within_the_time_that_decode_waits(hold_s: float) -> None:
    limits = MoverLimits(write_deadline_s=10, hold_s=hold_s)
    assert limits.patience == Patience(silence_s=hold_s)
    assert limits.signs.gap_s == hold_s / 5
    assert limits.signs.begun_gap_s == min(0.2, hold_s / 5)


@pytest.mark.parametrize(
    ("seconds", "place"),
    [(0.0, 0), (0.001, 0), (0.0011, 1), (1.0, 9), (30.0, 13), (30.1, 14), (1e9, 14)],
)
def test_a_stopwatch_counts_up_to_and_with_the_bound(seconds: float, place: int) -> None:
    watch = Stopwatch()
    assert watch.times == Times()
    watch.saw(seconds)
    assert watch.times.counts == tuple(int(i == place) for i in range(len(SECONDS_BOUNDS) + 1))
    assert watch.times.sum_s == seconds


def test_a_stopwatch_adds_up_and_hands_out_what_does_not_change() -> None:
    watch = Stopwatch()
    watch.saw(0.5)
    before = watch.times
    watch.saw(0.5)
    watch.saw(20)
    assert sum(before.counts) == 1
    assert sorted(watch.times.counts)[-2:] == [1, 2]
    assert watch.times.sum_s == 21


def test_counters_of_two_movers_are_their_own() -> None:
    one, other = Counters(), Counters()
    one.ended["x"] += 1
    one.transfer.saw(1)
    assert (other.ended, other.transfer.times) == ({}, Times())


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        ("withdrawn", "withdrawn"),
        ("prefill closed: withdrawn", "withdrawn"),
        ("aborted", "aborted"),
        ("the prefill leg was aborted", "aborted"),
        ("write deadline passed", "deadline"),
        ("write failed: write deadline passed", "deadline"),
        ("checksums differ", "checksum"),
        ("a write came without checksums", "checksum"),
        ("prefill died", "peer_died"),
        ("decode died", "peer_died"),
        ("prefill gives no sign of life", "silence"),
        ("prefill closed: no target registered in time", "no_target"),
        ("write failed: NIXL reports failure", "write_failed"),
        ("prefill closed: no such prefill leg", "peer_closed"),
        ("whatever", "other"),
        ("", "other"),
    ],
)
def test_every_reason_has_one_of_a_few_words(reason: str, word: str) -> None:
    assert word_of(reason) == word
