"""What an engine's mover tells its worker: totals since the engine's start, and its complaints.

Travels as a plain mapping inside vLLM's connector statistics, from the engine's process to its
worker, and from there to the routers' metrics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec

SECONDS_BOUNDS = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
)
"""Upper bounds of the buckets of times, seconds; one more bucket holds the rest."""

STATS_KEY = "baton"
"""Where the report lies in the connector's statistics."""

_BUCKETS = len(SECONDS_BOUNDS) + 1
Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Counts = Annotated[tuple[Count, ...], msgspec.Meta(min_length=_BUCKETS, max_length=_BUCKETS)]


@dataclass(frozen=True, slots=True)
class Times:
    """A histogram of times: `counts[i]` at most SECONDS_BOUNDS[i] and above the bound before."""

    counts: _Counts = (0,) * _BUCKETS
    sum_s: float = 0.0


@dataclass(frozen=True, slots=True)
class TransferReport:
    """One engine's transfers. Totals since start unless it says otherwise."""

    bytes_written: Count = 0
    writes: Count = 0
    descriptors: Count = 0
    """Runs of memory in those writes, adjacent blocks counted once."""
    received: Count = 0
    """Prompts whose KV arrived whole."""
    ended: Mapping[str, Count] = field(default_factory=dict)
    """Tickets that ended otherwise, by reason: a few fixed words."""
    late_notices: Count = 0
    """Messages about tickets that had ended, dropped."""
    transfer: Times = Times()
    """Prefill: first write of a prompt posted until its last was done."""
    exposed: Times = Times()
    """Prefill: the prompt's last step computed until its last write was done."""
    tickets: Mapping[str, Count] = field(default_factory=dict)
    """Open tickets now, by end and state, such as "source.streaming"."""
    fenced_blocks: Count = 0
    """Decode's blocks now that wait for the proof that no write is left."""
    quarantined_blocks: Count = 0
    """Those among them for which asking for the peer's death did not help so far."""
    accused: tuple[str, ...] = ()
    """Agents now of peers whose death is asked for."""
    gb_per_s: Mapping[str, float] = field(default_factory=dict)
    """Agent of a peer → rate of the self-test with it, 10^9 bytes a second."""


def to_plain(report: TransferReport) -> dict[str, Any]:
    """As msgpack can carry it."""
    plain: dict[str, Any] = msgspec.to_builtins(report)
    return plain


def from_plain(plain: Mapping[str, Any]) -> TransferReport:
    """Raises ValueError for what is no report."""
    return msgspec.convert(plain, TransferReport)
