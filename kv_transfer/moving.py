"""What both ends of a mover share: NIXL's port, limits, results, counters."""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from baton.errors import BatonError
from kv_transfer.agent import WriteState
from kv_transfer.endpoint import Blocks, Endpoint, decode_endpoint, encode_endpoint
from kv_transfer.pair_tests import Rules
from kv_transfer.report import SECONDS_BOUNDS, Times
from kv_transfer.ticket.states import Checking, Patience, Signs

_log = logging.getLogger("baton.kv_transfer")

HELLO = b"\x00baton"
"""Begins a message that carries the sender's endpoint; ticket messages begin otherwise."""

SumsOf: TypeAlias = Callable[[Sequence[int], int, int], tuple[int, ...]]
"""(blocks, first layer, layers) → a checksum per block."""


class AgentPort(Protocol):
    """What the mover needs of NIXL; see `kv_transfer.agent.Agent`."""

    def endpoint(self) -> Endpoint: ...

    def connect(self, endpoint: Endpoint) -> bool: ...

    def write(self, peer: str, what: Blocks, notice: bytes) -> Any: ...

    def state(self, handle: Any) -> WriteState: ...

    def release(self, handle: Any) -> None: ...

    def write_scratch(self, peer: str, blocks: int) -> Any: ...

    def same_host(self, peer: str) -> bool: ...

    def tell(self, peer: str, message: bytes) -> bool: ...

    def notices(self) -> list[tuple[str, bytes]]: ...

    @property
    def peers(self) -> set[str]: ...

    def dead(self, wanted: Iterable[str]) -> list[str]: ...

    def declare_dead(self, peers: Iterable[str]) -> None: ...

    def forget(self, peer: str) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class MoverLimits:
    """How long a registration invites writes, and which checksums are insisted on."""

    write_deadline_s: float
    hold_s: float
    """How long a finished prefill waits for its target to register, and how long decode waits for
    a prefill that gives no sign of life."""
    checking: Checking = Checking.FULL
    tests: Rules | None = None
    """Of the transport self-test; None = no test."""
    ucx_tls: str | None = None

    @property
    def signs(self) -> Signs:
        """Several signs of life within the time that decode waits for one."""
        return Signs(gap_s=self.hold_s / 5, begun_gap_s=min(0.2, self.hold_s / 5))

    @property
    def patience(self) -> Patience:
        return Patience(silence_s=self.hold_s)


@dataclass(frozen=True, slots=True)
class Memory:
    """One device's KV blocks as far as its mover sees them; `sums` is None with checks off."""

    block_bytes: int
    """Over all layers."""
    layers: int = 1
    sums: SumsOf | None = None
    rank: int = 0
    ranks: int = 1
    """Devices of the engine; each has a mover of its own."""


class Stopwatch:
    """A histogram that grows."""

    def __init__(self) -> None:
        self._counts = [0] * (len(SECONDS_BOUNDS) + 1)
        self._sum_s = 0.0

    def saw(self, seconds: float) -> None:
        self._counts[bisect_left(SECONDS_BOUNDS, seconds)] += 1
        self._sum_s += seconds

    @property
    def times(self) -> Times:
        return Times(tuple(self._counts), self._sum_s)


@dataclass(slots=True)
class Results:
    """What the engine has to be told. Request ids."""

    sent: set[str] = field(default_factory=set)
    admitted: set[str] = field(default_factory=set)
    """Decode legs that may be given blocks."""
    received: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Counters:
    """Totals since start, for metrics; see `report.TransferReport`."""

    bytes_written: int = 0
    writes: int = 0
    descriptors: int = 0
    received: int = 0
    late_notices: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    transfer: Stopwatch = field(default_factory=Stopwatch)
    exposed: Stopwatch = field(default_factory=Stopwatch)


def connect(agent: AgentPort, peer: bytes, memory: Memory) -> tuple[str, str | None]:
    """(name of the peer's agent, why it cannot be used), of the peer's same rank. A new peer is
    told who we are: it may have to answer about a ticket whose leg never reached it."""
    try:
        endpoint = decode_endpoint(peer).of_rank(memory.rank, memory.ranks)
        if agent.connect(endpoint):
            agent.tell(endpoint.agent, HELLO + encode_endpoint(agent.endpoint()))
    except BatonError as error:
        _log.warning("peer refused: %s", error.message)
        return "", error.message
    return endpoint.agent, None


_WORDS = (
    ("withdrawn", "withdrawn"),
    ("abort", "aborted"),
    ("deadline", "deadline"),
    ("checksum", "checksum"),
    ("died", "peer_died"),
    ("sign of life", "silence"),
    ("no target", "no_target"),
    ("write failed", "write_failed"),
    ("prefill closed", "peer_closed"),
)


def word_of(reason: str) -> str:
    """One of a few fixed words for why a ticket ended: a metric's label has to be bounded."""
    return next((word for part, word in _WORDS if part in reason), "other")
