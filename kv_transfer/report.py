"""What an engine's mover tells its worker: totals since the engine's start, and its complaints.

Travels as a plain mapping inside vLLM's connector statistics, from the engine's process to its
worker, and from there to the routers' metrics.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
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


def stats_key(rank: int) -> str:
    """Where the report of one device of an engine lies."""
    return f"{STATS_KEY}.{rank}" if rank else STATS_KEY


def is_report(key: object) -> bool:
    """Whether the report of a device lies here."""
    return key == STATS_KEY or (isinstance(key, str) and key.startswith(f"{STATS_KEY}."))


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
    """One engine's transfers, or one device's of it. Totals since start unless it says
    otherwise."""

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
    backlog_s: float = 0.0
    """Prefill: seconds until the writes under way are done, at the pace of late."""


def of_engine(ranks: Sequence[TransferReport]) -> TransferReport:
    """One report of those of all devices of an engine, at least one.

    Bytes and writes are sums. Each rank has its part of every prompt and every block, so those are
    counted as the rank that has most of them does; and a prompt has arrived when all have their
    part. Times are of parts.
    """
    if len(ranks) == 1:
        return ranks[0]
    return TransferReport(
        bytes_written=sum(r.bytes_written for r in ranks),
        writes=sum(r.writes for r in ranks),
        descriptors=sum(r.descriptors for r in ranks),
        received=min(r.received for r in ranks),
        ended=_most(r.ended for r in ranks),
        late_notices=sum(r.late_notices for r in ranks),
        transfer=_together([r.transfer for r in ranks]),
        exposed=_together([r.exposed for r in ranks]),
        tickets=_most(r.tickets for r in ranks),
        fenced_blocks=max(r.fenced_blocks for r in ranks),
        quarantined_blocks=max(r.quarantined_blocks for r in ranks),
        accused=tuple(sorted({agent for r in ranks for agent in r.accused})),
        gb_per_s=_slowest(r.gb_per_s for r in ranks),
        backlog_s=max(r.backlog_s for r in ranks),
    )


def _most(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    most: Counter[str] = Counter()
    for each in counts:
        most |= Counter(each)
    return dict(most)


def _slowest(rates: Iterable[Mapping[str, float]]) -> dict[str, float]:
    slowest: dict[str, float] = {}
    for each in rates:
        slowest |= {peer: min(rate, slowest.get(peer, rate)) for peer, rate in each.items()}
    return slowest


def _together(times: Sequence[Times]) -> Times:
    counts = zip(*(each.counts for each in times), strict=True)
    return Times(tuple(map(sum, counts)), sum(each.sum_s for each in times))


def to_plain(report: TransferReport) -> dict[str, Any]:
    """As msgpack can carry it."""
    plain: dict[str, Any] = msgspec.to_builtins(report)
    return plain


def from_plain(plain: Mapping[str, Any]) -> TransferReport:
    """Raises ValueError for what is no report."""
    return msgspec.convert(plain, TransferReport)
