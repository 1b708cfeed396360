"""What both ends of a mover share: NIXL's port, limits, results, counters."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from baton.errors import BatonError
from kv_transfer.agent import WriteState
from kv_transfer.endpoint import Endpoint, decode_endpoint, encode_endpoint
from kv_transfer.ticket.states import Checking

_log = logging.getLogger("baton.kv_transfer")

HELLO = b"\x00baton"
"""Begins a message that carries the sender's endpoint; ticket messages begin otherwise."""

SumsOf: TypeAlias = Callable[[Sequence[int]], tuple[int, ...]]


class AgentPort(Protocol):
    """What the mover needs of NIXL; see `kv_transfer.agent.Agent`."""

    def endpoint(self) -> Endpoint: ...

    def connect(self, endpoint: Endpoint) -> bool: ...

    def write(
        self, peer: str, sources: Sequence[int], targets: Sequence[int], notice: bytes
    ) -> Any: ...

    def state(self, handle: Any) -> WriteState: ...

    def release(self, handle: Any) -> None: ...

    def tell(self, peer: str, message: bytes) -> bool: ...

    def notices(self) -> list[tuple[str, bytes]]: ...

    def dead(self, wanted: Iterable[str]) -> list[str]: ...

    def forget(self, peer: str) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class MoverLimits:
    """How long a registration invites writes, and which checksums are insisted on."""

    write_deadline_s: float
    hold_s: float
    """How long a finished prefill waits for its target to register."""
    checking: Checking = Checking.FULL


@dataclass(frozen=True, slots=True)
class Memory:
    """The engine's KV blocks as far as the mover sees them; `sums` is None with checks off."""

    block_bytes: int
    sums: SumsOf | None = None


@dataclass(slots=True)
class Results:
    """What the engine has to be told. Request ids."""

    sent: set[str] = field(default_factory=set)
    received: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Counters:
    """Totals since start, for metrics."""

    bytes_written: int = 0
    writes: int = 0
    late_notices: int = 0
    landed: int = 0
    failed: int = 0


def connect(agent: AgentPort, peer: bytes) -> tuple[str, str | None]:
    """(name of the peer's agent, why it cannot be used). A new peer is told who we are: it may
    have to answer about a ticket whose leg never reached it."""
    try:
        endpoint = decode_endpoint(peer)
        if agent.connect(endpoint):
            agent.tell(endpoint.agent, HELLO + encode_endpoint(agent.endpoint()))
    except BatonError as error:
        _log.warning("peer refused: %s", error.message)
        return "", error.message
    return endpoint.agent, None
