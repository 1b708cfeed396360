"""What the scheduler's half of the connector tells the half that moves bytes, step by step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from kv_transfer.ticket.messages import TicketKey


@dataclass(frozen=True, slots=True)
class OpenSource:
    """A prefill leg came; `peer` is the endpoint of the decode worker."""

    key: TicketKey
    request_id: str
    peer: bytes


@dataclass(frozen=True, slots=True)
class OpenTarget:
    """A decode leg came; `peer` is the endpoint of the prefill worker."""

    key: TicketKey
    request_id: str
    peer: bytes


@dataclass(frozen=True, slots=True)
class Allocate:
    """Decode has blocks for positions `first` to `total` - 1."""

    key: TicketKey
    first: int
    blocks: tuple[int, ...]
    total: int


@dataclass(frozen=True, slots=True)
class Decline:
    """Decode wants nothing: it holds the whole prompt."""

    key: TicketKey


@dataclass(frozen=True, slots=True)
class Begin:
    """The first step of a prefill leg is scheduled."""

    key: TicketKey


@dataclass(frozen=True, slots=True)
class Cover:
    """Once this step has run, the first `computed` positions lie in `blocks`. `by_layer`: their
    layers may leave one by one while the step runs."""

    key: TicketKey
    source_epoch: int
    blocks: tuple[int, ...]
    computed: int
    by_layer: bool = True


@dataclass(frozen=True, slots=True)
class Done:
    """The first `layers` layers of a step are computed once `ready` says so: the device may lag
    behind the engine's thread. None = they are."""

    covers: tuple[Cover, ...]
    layers: int
    ready: Callable[[], bool] | None = None


@dataclass(frozen=True, slots=True)
class Preempt:
    """The prefill leg has lost its blocks."""

    key: TicketKey


@dataclass(frozen=True, slots=True)
class Finish:
    """The prefill leg has ended well; its blocks are held."""

    key: TicketKey


@dataclass(frozen=True, slots=True)
class Abort:
    """The leg has ended before its time. `held`: the engine keeps a prefill leg's blocks until
    the ticket is reported as sent."""

    key: TicketKey
    why: str
    held: bool = False


@dataclass(frozen=True, slots=True)
class PeersDead:
    """The processes of these agents have ended: their supervisor reaped them."""

    agents: tuple[str, ...]


Order: TypeAlias = (
    OpenSource
    | OpenTarget
    | Begin
    | Allocate
    | Decline
    | Done
    | Preempt
    | Finish
    | Abort
    | PeersDead
)


@dataclass(slots=True)
class Orders:
    """One step's orders: to be carried out at once, and after the step's computation."""

    at_once: list[Order] = field(default_factory=list)
    computed: list[Cover] = field(default_factory=list)
    idle: bool = False
    """The step computes nothing: the engine only waits for transfers."""
