"""Two movers with their threads over two real NIXL agents, all checksums on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

pytest.importorskip("nixl")

from baton.clock import MonotonicClock
from kv_transfer.endpoint import encode_endpoint
from kv_transfer.mover import Mover
from kv_transfer.moving import Memory, MoverLimits, Results
from kv_transfer.orders import Abort, Allocate, Cover, Finish, OpenSource, OpenTarget
from kv_transfer.ticket.states import Checking
from kv_transfer.ticket.words import TicketKey
from tests.wire.nixl_pair import Child, Engine

LIMITS = MoverLimits(write_deadline_s=20, hold_s=20, checking=Checking.FULL)
SOURCES, TARGETS = (1, 2, 5, 6), (7, 0, 3, 2)


class Served:
    """An engine whose agent belongs to a mover's thread, and all that the mover reported."""

    def __init__(self, fill: int) -> None:
        self.engine = Engine(fill)
        self.endpoint = encode_endpoint(self.engine.agent.endpoint())
        memory = Memory(self.engine.layout.block_bytes, self.engine.sums.of)
        self.mover = Mover(self.engine.agent, LIMITS, MonotonicClock(), memory)
        self.mover.start()
        self.results = Results()

    def take(self) -> Results:
        news, known = self.mover.take(), self.results
        assert not news.sent & known.sent, "sent twice"
        assert not news.received & known.received, "received twice"
        known.sent |= news.sent
        known.received |= news.received
        known.failed |= news.failed
        return known


@pytest.fixture
def pair() -> Iterator[tuple[Served, Served]]:
    prefill, decode = Served(fill=1), Served(fill=2)
    prefill.engine.number()
    yield prefill, decode
    for one in (prefill, decode):
        one.mover.stop()
        assert not one.mover._thread.is_alive()


def wait(done: Callable[[], object], seconds: float = 20.0) -> None:
    give_up_at = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < give_up_at, "it does not come"
        time.sleep(0.001)


def open_both(pair: tuple[Served, Served], key: TicketKey) -> None:
    prefill, decode = pair
    prefill.mover.feed([OpenSource(key, f"p{key.epoch}", decode.endpoint)])
    decode.mover.feed([OpenTarget(key, f"d{key.epoch}", prefill.endpoint)])


@pytest.mark.parametrize("prefill_first", [True, False])
def test_a_handoff_in_chunks(pair: tuple[Served, Served], prefill_first: bool) -> None:
    prefill, decode = pair
    key = TicketKey("t", 1)
    open_both(pair, key)
    allocate = Allocate(key, 0, TARGETS, 4)
    if not prefill_first:
        decode.mover.feed([allocate])
    for computed in (1, 3, 4):
        prefill.mover.feed([Cover(key, 0, SOURCES[:computed], computed)])
        time.sleep(0.01)
    prefill.mover.feed([Finish(key)])
    if prefill_first:
        decode.mover.feed([allocate])
    wait(lambda: prefill.take().sent and decode.take().received)
    assert decode.results == Results(set(), {"d1"}, {})
    assert prefill.results == Results({"p1"}, set(), {})
    assert decode.engine.sums.of(TARGETS) == prefill.engine.sums.of(SOURCES)
    assert all(decode.engine.words(block) == {2} for block in (1, 4, 5, 6))
    assert decode.mover.counters.late_notices == 0


def test_one_handoff_after_the_other(pair: tuple[Served, Served]) -> None:
    prefill, decode = pair
    for epoch in range(20):
        key = TicketKey("t", epoch)
        open_both(pair, key)
        decode.mover.feed([Allocate(key, 2, TARGETS[2:], 4)])
        prefill.mover.feed([Cover(key, 0, SOURCES, 4), Finish(key)])
    wait(lambda: len(prefill.take().sent) == len(decode.take().received) == 20)
    assert decode.results.failed == {}


def test_an_aborted_target_is_free_at_once(pair: tuple[Served, Served]) -> None:
    prefill, decode = pair
    key = TicketKey("t", 1)
    open_both(pair, key)
    decode.mover.feed([Allocate(key, 0, TARGETS, 4)])
    prefill.mover.feed([Cover(key, 0, SOURCES[:2], 2)])
    time.sleep(0.05)
    started = time.monotonic()
    decode.mover.feed([Abort(key, "aborted")])
    wait(lambda: decode.take().received)
    assert time.monotonic() - started < 2
    prefill.mover.feed([Cover(key, 0, SOURCES, 4), Finish(key)])
    wait(lambda: prefill.take().sent)
    assert decode.engine.words(TARGETS[3]) == {2}


def test_writes_to_a_killed_decode_let_prefill_go() -> None:
    prefill, child = Served(fill=1), Child(polling=False)
    key = TicketKey("t", 1)
    endpoint = encode_endpoint(child.endpoint)
    prefill.mover.feed([OpenSource(key, "p1", endpoint), Cover(key, 0, SOURCES, 4), Finish(key)])
    time.sleep(0.05)
    child.kill()
    wait(lambda: prefill.take().sent)
    assert prefill.mover._thread.is_alive()
    prefill.mover.stop()


def test_a_killed_prefill_fails_the_load() -> None:
    decode, child = Served(fill=2), Child(polling=True)
    key = TicketKey("t", 1)
    endpoint = encode_endpoint(child.endpoint)
    decode.mover.feed([OpenTarget(key, "d1", endpoint), Allocate(key, 0, TARGETS, 4)])
    time.sleep(0.05)
    assert not decode.take().failed
    child.kill()
    wait(lambda: decode.take().failed)
    assert decode.results.failed == {"d1": "prefill died"}
    decode.mover.stop()
