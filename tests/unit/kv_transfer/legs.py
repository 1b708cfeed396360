"""The legs of one ticket, as the engines' schedulers would order them."""

from __future__ import annotations

from kv_transfer.orders import Abort, Allocate, Begin, Cover, Done, Finish, OpenSource, OpenTarget
from kv_transfer.ticket.messages import TicketKey
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


def cover(two: Two, computed: int) -> None:
    """A step that is computed, in all its layers."""
    step = Cover(KEY, 0, SOURCES[:computed], computed)
    two.prefill.mover.feed([Begin(KEY), Done((step,), two.prefill.agent.layout.layers)])


class Step:
    """A step on a device that lags behind the engine: its layers are launched at once, and
    computed when told to. What it computes for a position is the same in whatever block."""

    def __init__(
        self,
        two: Two,
        computed: int,
        blocks: tuple[int, ...] = SOURCES,
        source_epoch: int = 0,
        *,
        by_layer: bool = True,
    ) -> None:
        self.agent, self.blocks, self.computed = two.prefill.agent, blocks[:computed], 0
        covers = (Cover(KEY, source_epoch, self.blocks, computed, by_layer),)
        dones = [
            Done(covers, n, lambda n=n: self.computed >= n)
            for n in range(1, self.agent.layout.layers + 1)
        ]
        two.prefill.mover.feed([Begin(KEY), *dones], wake=False)

    def compute(self, layers: int) -> None:
        """So many layers are done."""
        for layer in range(self.computed, layers):
            for position, block in enumerate(self.blocks):
                self.agent.memory[layer][block] = computed_of(layer, position)
        self.computed = layers


def computed_of(layer: int, position: int) -> int:
    return 1 + layer * 100 + position


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
    assert two.decode.agent.content(TARGETS[first:]) == two.prefill.agent.content(SOURCES[first:])
    assert_over(two)


def assert_over(two: Two) -> None:
    assert two.open_tickets == 0
    assert all(write.released for write in two.prefill.agent.writes)
