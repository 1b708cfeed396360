"""What the workers report of their KV transfers, as metrics and as a row of the status page.

The last report of each linked worker is rendered at each scrape. A worker's rows go with its link;
a restarted worker's totals begin again at 0, as counters may.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from baton.ids import WorkerId
from baton.wire import worker_pb2 as pb
from router.peer import Peer

_WORKER = ("worker", "role")
_REASONS_MAX = 32
_WORD = re.compile(r"[a-z][a-z0-9_]{0,47}")
_OTHER = "other"

_Labels = tuple[str, ...]
_Number = Callable[[pb.Transfer], int]
_TOTALS: Mapping[str, tuple[str, _Number]] = {
    "bytes": ("Bytes of KV written to peers.", lambda t: t.bytes_written),
    "writes": ("Writes of KV to peers.", lambda t: t.writes),
    "descriptors": ("Runs of memory in these writes.", lambda t: t.descriptors),
    "received": ("Prompts whose KV arrived whole.", lambda t: t.received),
    "late_notices": ("Messages about ended tickets, dropped.", lambda t: t.late_notices),
}
_TIMES: Mapping[str, tuple[str, Callable[[pb.Transfer], pb.Times]]] = {
    "transfer_seconds": (
        "From the first write of a prompt's KV until its last was done.",
        lambda t: t.transfer,
    ),
    "transfer_exposed_seconds": (
        "From the end of a prompt's computation until its last write was done.",
        lambda t: t.exposed,
    ),
}
_BLOCKS: Mapping[str, tuple[str, _Number]] = {
    "fenced": ("Blocks that wait for the proof that no write is left.", lambda t: t.fenced_blocks),
    "quarantined": (
        "Fenced blocks for which asking for the peer's death did not help so far.",
        lambda t: t.quarantined_blocks,
    ),
}


class TransferCollector(Collector):
    """Renders the reports of the workers that `peers` returns."""

    def __init__(self, peers: Callable[[], Iterable[Peer]]) -> None:
        self._peers = peers

    def collect(self) -> Iterator[Metric]:
        """All families, those without a row as well."""
        peers = tuple(self._peers())
        reports = [(_labels(p), p.transfer) for p in peers if p.transfer is not None]
        for name, (text, number) in _TOTALS.items():
            counter = CounterMetricFamily(f"baton_kv_transfer_{name}", text, labels=_WORKER)
            for labels, report in reports:
                counter.add_metric(labels, number(report))
            yield counter
        yield _ended(reports)
        for name, (text, times) in _TIMES.items():
            yield _histogram(f"baton_kv_{name}", text, [(at, times(r)) for at, r in reports])
        yield _tickets(reports)
        yield _backlog(reports)
        for name, (text, number) in _BLOCKS.items():
            gauge = GaugeMetricFamily(f"baton_kv_{name}_blocks", text, labels=_WORKER)
            for labels, report in reports:
                gauge.add_metric(labels, number(report))
            yield gauge
        yield _rates(reports, {p.info.transfer_agent: p.info.worker_id for p in peers})


_Reports = Sequence[tuple[_Labels, pb.Transfer]]


def transfer_row(report: pb.Transfer) -> dict[str, Any]:
    """What matters of it to people, in what JSON can hold."""
    return {
        "bytes_written": report.bytes_written,
        "received": report.received,
        "ended": dict(report.ended),
        "tickets": dict(report.tickets),
        "fenced_blocks": report.fenced_blocks,
        "quarantined_blocks": report.quarantined_blocks,
        "accused": list(report.accused),
        "backlog_s": report.backlog_s,
        "gb_per_s": max(report.gb_per_s.values(), default=None),
    }


def _labels(peer: Peer) -> _Labels:
    return (peer.info.worker_id, peer.info.role.value)


def _ended(reports: _Reports) -> Metric:
    text = "Tickets that ended without whole KV, by reason."
    counter = CounterMetricFamily("baton_kv_transfer_ended", text, labels=(*_WORKER, "reason"))
    for labels, report in reports:
        for reason, count in _few(report.ended).items():
            counter.add_metric((*labels, reason), count)
    return counter


def _tickets(reports: _Reports) -> Metric:
    text = "Open tickets, by end and state."
    gauge = GaugeMetricFamily("baton_kv_tickets", text, labels=(*_WORKER, "end", "state"))
    for labels, report in reports:
        for (end, state), count in _by_end(report.tickets).items():
            gauge.add_metric((*labels, end, state), count)
    return gauge


def _backlog(reports: _Reports) -> Metric:
    text = "Seconds until the writes of KV under way are done, at the pace of late."
    gauge = GaugeMetricFamily("baton_kv_transfer_backlog_seconds", text, labels=_WORKER)
    for labels, report in reports:
        gauge.add_metric(labels, report.backlog_s)
    return gauge


def _by_end(tickets: Mapping[str, int]) -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = {}
    for end in ("source", "target"):
        mine = {k.removeprefix(f"{end}."): n for k, n in tickets.items() if k.startswith(f"{end}.")}
        found |= {(end, state): count for state, count in _few(mine).items()}
    return found


def _few(counts: Mapping[str, int]) -> dict[str, int]:
    """Words as label values; what is none, or one too many, counts as another."""
    found: dict[str, int] = {}
    for word, count in sorted(counts.items()):
        known = _is_word(word) and len(found) < _REASONS_MAX
        label = word if known else _OTHER
        found[label] = found.get(label, 0) + count
    return found


@lru_cache(1024)
def _is_word(word: str) -> bool:
    return _WORD.fullmatch(word) is not None


def _histogram(name: str, text: str, rows: Iterable[tuple[_Labels, pb.Times]]) -> Metric:
    histogram = HistogramMetricFamily(name, text, labels=_WORKER)
    for labels, times in rows:
        # The worker counts each bucket by itself, Prometheus all up to a bound.
        counts = list(accumulate(times.counts))
        if len(counts) == len(times.bounds_s) + 1:
            histogram.samples += _buckets(name, labels, times, counts)
    return histogram


def _buckets(
    name: str, values: _Labels, times: pb.Times, counts: Sequence[int]
) -> Iterator[Sample]:
    """What `add_metric` would make of them, in half the time: there are many."""
    labels, bucket = dict(zip(_WORKER, values, strict=True)), f"{name}_bucket"
    for bound, count in zip(times.bounds_s, counts, strict=False):
        yield Sample(bucket, {**labels, "le": _bound(bound)}, count)
    yield Sample(bucket, {**labels, "le": "+Inf"}, counts[-1])
    yield Sample(f"{name}_count", labels, counts[-1])
    yield Sample(f"{name}_sum", labels, times.sum_s)


@lru_cache(64)
def _bound(seconds: float) -> str:
    return str(seconds)


def _rates(reports: _Reports, workers: Mapping[str, WorkerId]) -> Metric:
    gauge = GaugeMetricFamily(
        "baton_kv_transfer_rate_gb_per_second",
        "Rate of the self-test with a peer, 10^9 bytes a second.",
        labels=(*_WORKER, "peer"),
    )
    for labels, report in reports:
        for agent, rate in report.gb_per_s.items():
            # A peer that has been replaced is of no interest, and its name is unlike any other.
            if agent and agent in workers:
                gauge.add_metric((*labels, workers[agent]), rate)
    return gauge
