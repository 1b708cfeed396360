"""The legs of one ticket, as the engines' schedulers would order them."""

from __future__ import annotations

from kv_transfer.orders import Abort, Allocate, Cover, Finish, OpenSource, OpenTarget
from kv_transfer.ticket.words import TicketKey
from tests.unit.kv_transfer.fakes import Two

KEY = TicketKey("t", 1)
SOURCES, TARGETS = (10, 11, 12, 13), (20, 21, 22, 23)
ABORT = Abort(KEY, "the leg was aborted", held=True)


def open_source(two: Two, peer: bytes | None = None) -> None:
    two.prefill.mover.feed([OpenSource(KEY, "p1", two.decode.endpoint if peer is None else peer)])


def open_target(two: Two, peer: bytes | None = None) -> None:
    two.decode.mover.feed([OpenTarget(KEY, "d1", two.prefill.endpoint if peer is None else peer)])


def allocate(two: Two, first: int = 0) -> None:
    two.decode.mover.feed([Allocate(KEY, first, TARGETS[first:], 4)])


def cover(two: Two, computed: int, source_epoch: int = 0) -> None:
    two.prefill.mover.feed([Cover(KEY, source_epoch, SOURCES[:computed], computed)])


def finish(two: Two) -> None:
    two.prefill.mover.feed([Finish(KEY)])


def prompt(two: Two) -> None:
    """The prefill leg from beginning to end."""
    open_source(two)
    cover(two, 4)
    finish(two)


def target(two: Two) -> None:
    """The decode leg up to its registration."""
    open_target(two)
    allocate(two)


def assert_landed(two: Two, first: int = 0) -> None:
    assert two.decode.received == {"d1": 1}
    assert two.decode.failed == {}
    assert two.prefill.sent == {"p1": 1}
    assert two.decode.agent.sums(TARGETS[first:]) == two.prefill.agent.sums(SOURCES[first:])
    assert_over(two)


def assert_over(two: Two) -> None:
    assert two.open_tickets == 0
    assert all(write.released for write in two.prefill.agent.writes)
