"""Two movers with their threads over two real NIXL agents, all checksums on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
import torch

pytest.importorskip("nixl")

from baton.clock import MonotonicClock
from kv_transfer.endpoint import encode_endpoint
from kv_transfer.mover import Mover
from kv_transfer.moving import Memory, MoverLimits, Results
from kv_transfer.orders import (
    Abort,
    Allocate,
    Begin,
    Cover,
    Done,
    Finish,
    OpenSource,
    OpenTarget,
    Order,
)
from kv_transfer.ticket.messages import TicketKey
from kv_transfer.ticket.states import Checking
from tests.wire.nixl_pair import TENSORS, WORDS, Child, Engine

LIMITS = MoverLimits(write_deadline_s=20, hold_s=20, checking=Checking.FULL)
SOURCES, TARGETS = (1, 2, 5, 6), (7, 0, 3, 2)


class Served:
    """An engine whose agent belongs to a mover's thread, and all that the mover reported."""

    def __init__(self, fill: int) -> None:
        self.engine = Engine(fill)
        self.endpoint = encode_endpoint(self.engine.agent.endpoint())
        layout = self.engine.layout
        memory = Memory(layout.block_bytes, layout.layers, self.engine.sums.of)
        self.entered: list[str] = []
        self.mover = Mover(self.engine.agent, LIMITS, MonotonicClock(), memory, self._enter)
        self.mover.start()
        self.results = Results()

    def _enter(self) -> None:
        self.entered.append(threading.current_thread().name)

    def take(self) -> Results:
        news, known = self.mover.take(), self.results
        assert not news.sent & known.sent, "sent twice"
        assert not news.received & known.received, "received twice"
        assert not news.admitted & known.admitted, "admitted twice"
        known.sent |= news.sent
        known.admitted |= news.admitted
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


def computed(key: TicketKey, positions: int) -> tuple[Order, ...]:
    """A step that has run."""
    cover = Cover(key, 0, SOURCES[:positions], positions)
    return Begin(key), Done((cover,), TENSORS)


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
    for positions in (1, 3, 4):
        prefill.mover.feed(computed(key, positions))
        time.sleep(0.01)
    prefill.mover.feed([Finish(key)])
    if prefill_first:
        decode.mover.feed([allocate])
    wait(lambda: prefill.take().sent and decode.take().received)
    assert decode.results.failed == prefill.results.failed == {}
    assert prefill.entered == ["kv mover"]
    assert decode.engine.all_sums(TARGETS) == prefill.engine.all_sums(SOURCES)
    assert all(decode.engine.words(block) == {2} for block in (1, 4, 5, 6))
    assert decode.mover.counters.late_notices == 0


def test_layers_leave_one_by_one_while_the_rest_is_computed(pair: tuple[Served, Served]) -> None:
    prefill, decode = pair
    key = TicketKey("t", 1)
    open_both(pair, key)
    prefill.mover.feed([Begin(key)])
    wait(lambda: decode.take().admitted)
    decode.mover.feed([Allocate(key, 0, TARGETS, 4)])
    wait(lambda: prefill.mover.report().tickets == {"source.streaming": 1})
    covers = (Cover(key, 0, SOURCES, 4),)
    computed_layers = [threading.Event() for _ in range(TENSORS)]
    dones = [Done(covers, i + 1, done.is_set) for i, done in enumerate(computed_layers)]
    prefill.mover.feed(dones, wake=False)
    for layer, done in enumerate(computed_layers):
        # It is computed only now: an early write would carry something else.
        prefill.engine.tensors[layer].copy_(torch.randint(2**31 - 1, (8, WORDS)))
        done.set()
        wait(lambda n=layer: prefill.mover.counters.writes == n + 1)
        assert layer == TENSORS - 1 or not decode.take().received
    prefill.mover.feed([Finish(key)])
    wait(lambda: prefill.take().sent and decode.take().received)
    assert decode.results.failed == {}
    assert decode.engine.all_sums(TARGETS) == prefill.engine.all_sums(SOURCES)
    # (1, 2, 5, 6) into (7, 0, 3, 2): nothing lies beside its neighbour on both sides.
    wait(lambda: prefill.mover.report().descriptors == 4 * TENSORS)
    report = prefill.mover.report()
    assert report.bytes_written == 4 * prefill.engine.layout.block_bytes
    assert sum(report.transfer.counts) == sum(report.exposed.counts) == 1
    wait(lambda: decode.mover.report().received == 1)


def test_decode_waits_for_a_prefill_that_waits(pair: tuple[Served, Served]) -> None:
    prefill, decode = pair
    key = TicketKey("t", 1)
    decode.mover.feed([OpenTarget(key, "d1", prefill.endpoint)])
    prefill.mover.feed([OpenSource(key, "p1", decode.endpoint)])
    time.sleep(0.05)
    assert not decode.take().admitted
    prefill.mover.feed([Begin(key)])
    wait(lambda: decode.take().admitted)
    decode.mover.feed([Abort(key, "aborted")])
    prefill.mover.feed([Abort(key, "aborted", held=True)])
    wait(lambda: prefill.take().sent)


def test_one_handoff_after_the_other(pair: tuple[Served, Served]) -> None:
    prefill, decode = pair
    for epoch in range(20):
        key = TicketKey("t", epoch)
        open_both(pair, key)
        decode.mover.feed([Allocate(key, 2, TARGETS[2:], 4)])
        prefill.mover.feed([*computed(key, 4), Finish(key)])
    wait(lambda: len(prefill.take().sent) == len(decode.take().received) == 20)
    assert decode.results.failed == {}


def test_an_aborted_target_is_free_at_once(pair: tuple[Served, Served]) -> None:
    prefill, decode = pair
    key = TicketKey("t", 1)
    open_both(pair, key)
    decode.mover.feed([Allocate(key, 0, TARGETS, 4)])
    prefill.mover.feed(computed(key, 2))
    time.sleep(0.05)
    started = time.monotonic()
    decode.mover.feed([Abort(key, "aborted")])
    wait(lambda: decode.take().received)
    assert time.monotonic() - started < 2
    prefill.mover.feed([*computed(key, 4), Finish(key)])
    wait(lambda: prefill.take().sent)
    assert decode.engine.words(TARGETS[3]) == {2}


def test_writes_to_a_killed_decode_let_prefill_go() -> None:
    prefill, child = Served(fill=1), Child(polling=False)
    key = TicketKey("t", 1)
    endpoint = encode_endpoint(child.endpoint)
    prefill.mover.feed([OpenSource(key, "p1", endpoint), *computed(key, 4), Finish(key)])
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
