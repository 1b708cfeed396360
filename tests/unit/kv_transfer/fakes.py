"""Hand-written stand-ins: NIXL between two engines, and two movers over it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from baton.clock import ManualClock
from baton.errors import BatonError, Reason
from kv_transfer.agent import WriteState
from kv_transfer.endpoint import (
    Blocks,
    Endpoint,
    Layout,
    Region,
    check_pair,
    encode_endpoint,
    joined,
)
from kv_transfer.liveness import ProcessName
from kv_transfer.mover import Mover
from kv_transfer.moving import HELLO, Memory, MoverLimits, Results
from kv_transfer.ticket import codec
from kv_transfer.ticket.messages import Message
from kv_transfer.ticket.states import Checking


def layout_of(layers: int, size: int = 64, regions: int = 1) -> Layout:
    """A layout of 32 blocks; a block takes `size` bytes in each of a layer's regions."""
    places = tuple(Region(i * size * 32, size, size) for i in range(layers * regions))
    return Layout(places, 32, 4, "DRAM", 0, "bf16", layers)


LAYOUT = layout_of(1)


@dataclass(frozen=True)
class Letter:
    """One message under way."""

    sender: str
    receiver: str
    data: bytes

    @property
    def message(self) -> Message | None:
        """What it says; None for an introduction or garbage."""
        try:
            return codec.decode(self.data)
        except codec.MalformedMessageError:
            return None


@dataclass
class Network:
    """Joins agents. Letters wait until delivered; `dropped` and `repeated` are kinds of message."""

    agents: dict[str, FakeAgent] = field(default_factory=dict)
    waiting: list[Letter] = field(default_factory=list)
    delayed: tuple[type, ...] = ()
    dropped: tuple[type, ...] = ()
    repeated: tuple[type, ...] = ()
    sent: list[Letter] = field(default_factory=list)

    def send(self, letter: Letter) -> None:
        self.sent.append(letter)
        if not isinstance(letter.message, self.dropped):
            self.waiting.append(letter)

    def deliver(self) -> None:
        """Everything that waits, except the delayed kinds."""
        left = []
        for letter in self.waiting:
            if isinstance(letter.message, self.delayed):
                left.append(letter)
                continue
            copies = 2 if isinstance(letter.message, self.repeated) else 1
            self.agents[letter.receiver].inbox += [(letter.sender, letter.data)] * copies
        self.waiting = left

    def said(self, kind: type) -> list[Message]:
        """All messages of one kind that were ever sent."""
        return [letter.message for letter in self.sent if isinstance(letter.message, kind)]

    def hellos(self) -> int:
        return sum(letter.data.startswith(HELLO) for letter in self.sent)


@dataclass
class Write:
    """A posted write."""

    peer: str
    sources: tuple[int, ...]
    targets: tuple[int, ...]
    layer: int
    layers: int
    notice: bytes
    state: WriteState = WriteState.UNDER_WAY
    released: bool = False


class FakeAgent:
    """The mover's port to NIXL. Memory is one number per layer and block; a write is in place as
    soon as somebody asks for its state, or later when `held`."""

    def __init__(self, name: str, network: Network, layout: Layout = LAYOUT) -> None:
        self.name, self.network, self.layout = name, network, layout
        network.agents[name] = self
        self.memory = [[0] * layout.blocks for _ in range(layout.layers)]
        self.peers: set[str] = set()
        self.connected: dict[str, Endpoint] = {}
        self.known_dead: set[str] = set()
        self.watched: list[set[str]] = []
        """Whose death was asked for, call by call."""
        self.forgotten: list[str] = []
        self.inbox: list[tuple[str, bytes]] = []
        self.writes: list[Write] = []
        self.held = False
        self.failing = False
        self.refusing = False
        self.closed = False

    def endpoint(self) -> Endpoint:
        return Endpoint(self.name, b"meta", self.layout, ProcessName("host", 1, 1))

    def connect(self, endpoint: Endpoint) -> bool:
        if endpoint.agent in self.peers:
            return False
        check_pair(self.layout, endpoint.layout)
        self.peers.add(endpoint.agent)
        self.connected[endpoint.agent] = endpoint
        return True

    def write(self, peer: str, what: Blocks, notice: bytes) -> Write:
        if self.refusing or peer not in self.peers:
            raise BatonError(Reason.TRANSFER_FAILED, "write refused")
        blocks = tuple(what.sources), tuple(what.targets)
        write = Write(peer, *blocks, what.layer, what.layers, notice)
        self.writes.append(write)
        return write

    def state(self, handle: Write) -> WriteState:
        assert not handle.released, "asked about a released handle"
        if handle.state is WriteState.UNDER_WAY and not self.held:
            self._finish(handle)
        return handle.state

    def _finish(self, write: Write) -> None:
        if self.failing:
            write.state = WriteState.FAILED
            return
        write.state = WriteState.DONE
        there = self.network.agents[write.peer].memory
        for layer in range(write.layer, write.layer + write.layers):
            for source, target in zip(write.sources, write.targets, strict=True):
                there[layer][target] = self.memory[layer][source]
        self.network.send(Letter(self.name, write.peer, write.notice))

    def release(self, handle: Write) -> None:
        assert handle.state is not WriteState.UNDER_WAY, "released under way"
        assert not handle.released, "released twice"
        handle.released = True

    def tell(self, peer: str, message: bytes) -> bool:
        if peer in self.peers:
            self.network.send(Letter(self.name, peer, message))
        return peer in self.peers

    def notices(self) -> list[tuple[str, bytes]]:
        taken, self.inbox = self.inbox, []
        return taken

    def dead(self, wanted: Iterable[str]) -> list[str]:
        self.watched.append(set(wanted))
        news = sorted(self.known_dead & self.watched[-1])
        self.known_dead -= set(news)
        return news

    def declare_dead(self, peers: Iterable[str]) -> None:
        self.known_dead |= set(peers)

    def forget(self, peer: str) -> None:
        self.peers.discard(peer)
        self.forgotten.append(peer)

    def close(self) -> None:
        self.closed = True

    def sums(self, blocks: Sequence[int], layer: int, layers: int) -> tuple[int, ...]:
        """A checksum per block: its numbers in these layers, one after the other."""
        return tuple(
            sum(row[block] * 10_000**i for i, row in enumerate(self.memory[layer : layer + layers]))
            for block in blocks
        )

    def content(self, blocks: Sequence[int]) -> list[list[int]]:
        """What lies in these blocks, layer by layer."""
        return [[row[block] for block in blocks] for row in self.memory]


@dataclass
class Side:
    """One engine's mover and all it ever reported."""

    agent: FakeAgent
    mover: Mover
    sent: Counter[str] = field(default_factory=Counter)
    admitted: Counter[str] = field(default_factory=Counter)
    received: Counter[str] = field(default_factory=Counter)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def endpoint(self) -> bytes:
        return encode_endpoint(self.agent.endpoint())

    def turn(self) -> Results:
        self.mover.turn()
        results = self.mover.take()
        self.sent.update(results.sent)
        self.admitted.update(results.admitted)
        self.received.update(results.received)
        assert not results.failed.keys() & self.failed.keys(), "failed twice"
        self.failed |= results.failed
        return results


class Two:
    """A prefill and a decode engine's movers, turned by hand."""

    limits = MoverLimits(write_deadline_s=10.0, hold_s=5.0)

    def __init__(
        self,
        layout: Layout = LAYOUT,
        *,
        decode_layout: Layout | None = None,
        limits: MoverLimits = limits,
    ) -> None:
        self.clock = ManualClock(100.0)
        self.network = Network()
        self.prefill = self._side("p", layout, limits)
        self.decode = self._side("d", decode_layout or layout, limits)
        for layer, row in enumerate(self.prefill.agent.memory, 1):
            row[:] = [1000 * layer + block for block in range(layout.blocks)]

    def _side(self, name: str, layout: Layout, limits: MoverLimits) -> Side:
        agent = FakeAgent(name, self.network, layout)
        sums = None if limits.checking is Checking.OFF else agent.sums
        memory = Memory(layout.block_bytes, layout.layers, sums)
        return Side(agent, Mover(agent, limits, self.clock, memory))

    def run(self, rounds: int = 6) -> None:
        for _ in range(rounds):
            self.prefill.turn()
            self.decode.turn()
            self.network.deliver()

    def pass_time(self, seconds: float) -> None:
        """In steps, so that whatever has to happen on the way does."""
        for _ in range(round(seconds / 0.1)):
            self.clock.advance(0.1)
            self.run(2)

    @property
    def open_tickets(self) -> int:
        ends = (self.prefill.mover, self.decode.mover)
        return sum(m._sending.tickets + m._receiving.tickets for m in ends)


OTHER_LAYOUT = replace(LAYOUT, fingerprint="fp8")


def joined_endpoint(ranks: Iterable[FakeAgent]) -> bytes:
    """What an engine of these ranks publishes."""
    return encode_endpoint(joined({agent.layout.rank: agent.endpoint() for agent in ranks}))
