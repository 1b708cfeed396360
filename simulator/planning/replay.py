"""One trace through one cluster, and whether the promises were kept."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from router.policy.division import Promise
from simulator import desk
from simulator.bridge import Bridge
from simulator.cluster_model import Cluster
from simulator.flight import Flight
from simulator.job import End, Record
from simulator.pairing import Pairing, PairingRules
from simulator.planning.setups import MIXED_CHUNK, Setup
from simulator.planning.terms import Kind, Promises
from simulator.results import Slo, percentile, ratio
from simulator.rules import ClusterRules
from simulator.traces.request import Trace

_WARM_SHARE, _WARM_MAX = 0.07, 500
_LOOK_EVERY = 20
"""Ends of requests between two looks at whether a run is lost."""


class Lack(StrEnum):
    """What there is too little of."""

    NOTHING = "nothing"
    PREFILL = "prefill"
    DECODE = "decode"


@dataclass(frozen=True, slots=True)
class Trial:
    """What one replay showed. `whole` is False if it was given up, as too many had missed: then
    everything is about those who had come by then, and who had no answer yet had missed."""

    setup: Setup
    attained: float
    lack: Lack
    ttft_s: float
    """At the promised percentile, of finished requests."""
    tpot_s: float
    divided: float
    """Share of requests whose prompt was computed elsewhere."""
    hit_share: float
    gpu_hours: float
    whole: bool
    kept: tuple[bool, ...]
    """By request, in order of arrival, without those that found empty caches."""

    @property
    def keeps(self) -> bool:
        """Whether the promises were kept."""
        return self.lack is Lack.NOTHING


def replay(
    setup: Setup, trace: Trace, promises: Promises, seed: int = 0, *, give_up: bool = True
) -> Trial:
    """Runs it. Raises ValueError for an empty trace."""
    unscored = warming(trace)
    allowed = (1 - promises.share) * (len(trace.requests) - unscored)
    watch = _Watch(slo_of(promises), unscored, allowed if give_up else math.inf)
    cluster = cluster_of(setup, promises, seed, watch)
    watch.flights = cluster.flights
    records = cluster.run(trace).records[unscored:]
    return _trial(setup, records, promises, watch)


def cluster_of(
    setup: Setup,
    promises: Promises,
    seed: int = 0,
    until: Callable[[Record], bool] | None = None,
) -> Cluster:
    """What is run; `until` hears of each request that ends, and True from it ends the run."""
    rules = _rules(setup, seed)
    return Cluster(rules, _router(setup, rules, promises, seed), until=until)


def warming(trace: Trace) -> int:
    """How many requests are not counted, as they find empty caches."""
    return min(_WARM_MAX, int(len(trace.requests) * _WARM_SHARE))


def slo_of(promises: Promises) -> Slo:
    """The promise to one request."""
    return Slo(promises.ttft_s, promises.tpot_s)


class _Watch:
    """Counts those that missed, and gives up when there are too many."""

    def __init__(self, slo: Slo, unscored: int, allowed: float) -> None:
        self._slo = slo
        self._unscored = unscored
        self._allowed = allowed
        self._missed = 0
        self._ended = 0
        self.flights: Mapping[int, Flight] = {}
        """Requests that have not ended."""
        self.over = False

    def __call__(self, record: Record) -> bool:
        self._ended += 1
        if record.request.number >= self._unscored and not self._slo.met(record):
            self._missed += 1
        if self._ended % _LOOK_EVERY == 0:
            # For good: what is cut off then ends without a time.
            self.over = self.over or self._missed + self._late(record.finished_s) > self._allowed
        return self.over

    def _late(self, now: float) -> int:
        """Those that wait longer than was promised: routers let hopeless ones wait the longest."""
        latest_s = now - self._slo.ttft_s
        return sum(
            f.record.first_s < 0 and f.request.arrival_s < latest_s and number >= self._unscored
            for number, f in self.flights.items()
        )


def _rules(setup: Setup, seed: int) -> ClusterRules:
    hardware, apart = setup.hardware, setup.kind is not Kind.AGGREGATED
    mixed_chunk = min(MIXED_CHUNK, hardware.engine.max_batched_tokens)
    return ClusterRules(
        hardware.times,
        setup.prefill,
        setup.decode,
        engine=hardware.engine if apart else hardware.chunked(setup.chunk_tokens),
        decode_engine=hardware.chunked(mixed_chunk) if setup.kind is Kind.MIXED else None,
        network=hardware.network,
        gpus_per_worker=hardware.gpus,
        cores=hardware.cores,
        seed=seed,
    )


def _router(
    setup: Setup, rules: ClusterRules, promises: Promises, seed: int
) -> Callable[[int], Bridge]:
    promise = Promise(promises.ttft_s, promises.tpot_s)

    together = setup.kind is Kind.AGGREGATED

    def make(number: int) -> Bridge:
        return Bridge(
            desk.maker(seed, may_ask=False),
            number,
            rules,
            None if together else Pairing(rules, PairingRules(promise)),
            slo_s=promises.ttft_s,
            divides=setup.kind is Kind.MIXED,
        )

    return make


def _trial(setup: Setup, records: tuple[Record, ...], promises: Promises, watch: _Watch) -> Trial:
    slo = slo_of(promises)
    finished = [r for r in records if r.end is End.FINISHED]
    kept = tuple(slo.met(r) for r in records)
    attained = statistics.fmean(kept)
    # Given up is not kept, whatever rounding says.
    keeps = attained >= promises.share and not watch.over
    last_s = max((r.finished_s for r in records), default=0.0)
    return Trial(
        setup,
        attained,
        Lack.NOTHING if keeps else _lack(records, slo),
        percentile([r.ttft_s for r in finished], promises.share),
        percentile([r.tpot_s for r in finished], promises.share),
        ratio(sum(r.prefill not in (None, r.decode) for r in finished), len(finished)),
        ratio(sum(r.hit_tokens for r in finished), sum(r.request.input_tokens for r in finished)),
        setup.gpus * last_s / 3600,
        not watch.over,
        kept,
    )


def _lack(records: Sequence[Record], slo: Slo) -> Lack:
    """What those who missed waited for the longest; most of them decide."""
    missed = [r for r in records if not slo.met(r)]
    return (
        Lack.DECODE if 2 * sum(_by_decode(r, slo) for r in missed) > len(missed) else Lack.PREFILL
    )


def _by_decode(record: Record, slo: Slo) -> bool:
    """Late first tokens are decode's doing where KV waits for memory there."""
    if record.first_s < 0:
        return record.computed_s >= 0
    before, _, transfer, queue, _ = record.parts_s
    if record.ttft_s > slo.ttft_s:
        return transfer + queue > before
    return record.end is End.FINISHED
