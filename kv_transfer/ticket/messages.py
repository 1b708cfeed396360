"""What the two ends of a ticket say to each other; `words` explains positions and layers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True, order=True)
class TicketKey:
    """Names one attempt. What carries another epoch concerns another attempt's blocks."""

    ticket_id: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Alive:
    """Prefill to decode: the leg is here. `begun`: its computation begins, so blocks for it are
    well spent; before that they would only wait in prefill's queue."""

    key: TicketKey
    begun: bool


@dataclass(frozen=True, slots=True)
class Register:
    """Decode to prefill: position first + i goes into decode's block blocks[i].

    Decode holds the positions below `first` already; they are never written. Raises ValueError
    when it contradicts itself.
    """

    key: TicketKey
    first: int
    blocks: tuple[int, ...]
    total: int
    write_deadline_s: float

    def __post_init__(self) -> None:
        if self.first < 0 or not self.blocks or self.first + len(self.blocks) != self.total:
            raise ValueError(
                f"{len(self.blocks)} blocks from {self.first} do not make {self.total}"
            )
        if min(self.blocks) < 0 or len(set(self.blocks)) != len(self.blocks):
            raise ValueError("block ids have to be different and not negative")
        if not (self.write_deadline_s > 0 and math.isfinite(self.write_deadline_s)):
            raise ValueError(f"{self.write_deadline_s} is no duration")


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Decode to prefill: post nothing more, and prove it."""

    key: TicketKey


@dataclass(frozen=True, slots=True)
class Written:
    """Prefill to decode, the notice of one write: these layers of these positions are in place.

    `sums` has one checksum per position, over those layers, or is empty. Raises ValueError when it
    contradicts itself.
    """

    key: TicketKey
    source_epoch: int
    rank: int
    first: int
    count: int
    sums: tuple[int, ...] = ()
    layer: int = 0
    """The first one."""
    layers: int = 1

    def __post_init__(self) -> None:
        if min(self.rank, self.first) < 0 or self.count < 1:
            raise ValueError(f"{self.count} positions from {self.first} of rank {self.rank}")
        if self.layer < 0 or self.layers < 1:
            raise ValueError(f"{self.layers} layers from {self.layer}")
        if len(self.sums) not in (0, self.count):
            raise ValueError(f"{len(self.sums)} checksums for {self.count} positions")


@dataclass(frozen=True, slots=True)
class Closed:
    """Prefill to decode: each handle that this rank posted is done, and none will follow.

    `reason` is None when all positions were written.
    """

    key: TicketKey
    reason: str | None
    rank: int = 0


Message: TypeAlias = Alive | Register | Withdraw | Written | Closed
