"""The prefill ends of one engine alone, and the peer that watches them."""

from __future__ import annotations

from collections.abc import Sequence

from baton.clock import ManualClock
from kv_transfer.endpoint import Layout, encode_endpoint
from kv_transfer.moving import Counters, Memory, MoverLimits
from kv_transfer.orders import Cover, OpenSource
from kv_transfer.sending import Sending
from kv_transfer.ticket.messages import Register, TicketKey
from kv_transfer.ticket.states import Checking
from tests.unit.kv_transfer.fakes import LAYOUT, FakeAgent, Network

KEY = TicketKey("t", 1)
REGISTER = Register(KEY, 0, (20, 21), 2, 10.0)
COVER = Cover(KEY, 0, (1, 2), 2)


class Bench:
    """One Sending and the peer that watches it."""

    def __init__(self, layout: Layout = LAYOUT, checking: Checking = Checking.FULL) -> None:
        self.network = Network()
        self.agent = FakeAgent("p", self.network, layout)
        self.peer = FakeAgent("d", self.network, layout)
        self.agent.peers.add("d")
        self.agent.memory[0][1:3] = [7, 8]
        self.clock = ManualClock()
        self.counters = Counters()
        self.sent: list[str] = []
        self.summed: list[tuple[tuple[int, ...], int, int]] = []
        limits = MoverLimits(10, 5, checking)
        memory = Memory(layout.block_bytes, layout.layers, self.sums)
        rest = (self.clock, memory, self.counters, self.sent.append)
        self.sending = Sending(self.agent, limits, *rest)

    def sums(self, blocks: Sequence[int], layer: int, layers: int) -> tuple[int, ...]:
        self.summed.append((tuple(blocks), layer, layers))
        return self.agent.sums(blocks, layer, layers)

    @property
    def pieces(self) -> list[tuple[int, int, tuple[int, ...]]]:
        """(first layer, layers, targets) of what was written."""
        return [(w.layer, w.layers, w.targets) for w in self.agent.writes]

    def open(self, key: TicketKey = KEY) -> None:
        self.sending.open(OpenSource(key, "p1", encode_endpoint(self.peer.endpoint())))
