"""What a simulation showed: one record per request, and figures over all of them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from baton.ids import WorkerId
from baton.messages import Role
from baton.percentile import percentile as nearest_rank
from simulator.job import End, Record
from simulator.plugs import Wanted

if TYPE_CHECKING:
    from simulator.cluster_model import Cluster


@dataclass(frozen=True, slots=True)
class Slo:
    """What a request was promised. DistServe's goodput asks it for nine requests in ten."""

    ttft_s: float = 2.0
    tpot_s: float = 0.040

    def met(self, record: Record) -> bool:
        """Whether a request got it. One that did not finish did not."""
        return (
            record.end is End.FINISHED
            and record.ttft_s <= self.ttft_s
            and record.tpot_s <= self.tpot_s
        )


@dataclass(frozen=True, slots=True)
class Summary:
    """Figures over the scored requests; latencies are of those that finished."""

    requests: int
    finished: int
    attained: float
    """Share of requests that met both promises."""
    ttft_attained: float
    tpot_attained: float
    ttft_p50_s: float
    ttft_p90_s: float
    ttft_p99_s: float
    tpot_p50_s: float
    tpot_p90_s: float
    parts_s: tuple[float, float, float, float, float]
    """Means: queue, prefill, exposed transfer, decode queue, first step. They add up to TTFT."""
    hit_share: float
    """Of all prompt tokens, those found in the prefix cache."""
    preemptions: int
    restarts: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything that a run showed."""

    records: tuple[Record, ...]
    seconds: float
    events: int
    prefill_worker_s: float
    decode_worker_s: float
    gpus_per_worker: int
    changes: int
    moved_tokens: int
    computed_tokens: dict[WorkerId, int]
    """Per worker that took prompts."""
    decisions: tuple[tuple[float, Wanted], ...] = ()
    """What the controller wanted, whenever that changed."""

    @property
    def mean_workers(self) -> float:
        """Workers that were paid for, on average."""
        return (self.prefill_worker_s + self.decode_worker_s) / self.seconds if self.seconds else 0

    @property
    def gpu_hours(self) -> float:
        """From the start of each worker to its end."""
        return (self.prefill_worker_s + self.decode_worker_s) * self.gpus_per_worker / 3600

    @property
    def imbalance(self) -> float:
        """The spread of computed prompt tokens between workers: standard deviation over mean."""
        tokens = list(self.computed_tokens.values())
        mean = statistics.fmean(tokens) if tokens else 0.0
        return statistics.pstdev(tokens) / mean if mean else 0.0

    def summary(self, slo: Slo = Slo(), unscored: int = 0) -> Summary:
        """Figures without the first `unscored` requests, which find empty caches."""
        scored = self.records[unscored:]
        finished = [r for r in scored if r.end is End.FINISHED]
        ttft = [r.ttft_s for r in finished]
        tpot = [r.tpot_s for r in finished]
        parts = [_mean(r.parts_s[i] for r in finished) for i in range(5)]
        return Summary(
            requests=len(scored),
            finished=len(finished),
            attained=_share(scored, slo.met),
            ttft_attained=_share(scored, Slo(slo.ttft_s, math.inf).met),
            tpot_attained=_share(scored, Slo(math.inf, slo.tpot_s).met),
            ttft_p50_s=percentile(ttft, 0.5),
            ttft_p90_s=percentile(ttft, 0.9),
            ttft_p99_s=percentile(ttft, 0.99),
            tpot_p50_s=percentile(tpot, 0.5),
            tpot_p90_s=percentile(tpot, 0.9),
            parts_s=(parts[0], parts[1], parts[2], parts[3], parts[4]),
            hit_share=ratio(
                sum(r.hit_tokens for r in finished), sum(r.request.input_tokens for r in finished)
            ),
            preemptions=sum(r.preemptions for r in scored),
            restarts=sum(max(r.attempts - 1, 0) for r in scored),
        )


def outcome(cluster: Cluster, records: Iterable[Record], now: float) -> Outcome:
    """The outcome of a run that ends now."""
    fleet = cluster.fleet
    return Outcome(
        records=tuple(records),
        seconds=now,
        events=cluster.clock.done,
        prefill_worker_s=fleet.worker_seconds(Role.PREFILL, now),
        decode_worker_s=fleet.worker_seconds(Role.DECODE, now),
        gpus_per_worker=cluster.rules.gpus_per_worker,
        changes=cluster.changes.count,
        moved_tokens=cluster.wires.moved_tokens,
        computed_tokens={
            w.worker_id: w.engine.computed_tokens
            for w in fleet.workers.values()
            if w.role is Role.PREFILL or w.engine.computed_tokens
        },
        decisions=tuple(cluster.desk.said) if cluster.desk else (),
    )


def highest_load(
    attained: Callable[[float], float],
    start: float,
    share: float = 0.9,
    precision: float = 0.02,
    stride: float = 2.0,
) -> float:
    """Goodput: the highest load at which at least `share` is attained, to a relative precision.

    Goes up or down from `start` by factors of `stride` until the answer is enclosed, then bisects.
    0 when not even a thousandth of `start` is served well; no search goes above its thousandfold.
    Raises ValueError for a start that is not positive and for a stride of 1 or less.
    """
    if not start > 0:
        raise ValueError(f"the search has to start above 0: {start}")
    if not stride > 1:
        raise ValueError(f"the search has to move on: stride {stride}")
    good, bad = 0.0, start
    while bad < start * 1000 and attained(bad) >= share:
        good, bad = bad, bad * stride
    while not good and bad > start / 1000:
        if attained(bad / stride) >= share:
            good = bad / stride
        else:
            bad /= stride
    while good and bad / good > 1 + precision:
        middle = math.sqrt(good * bad)
        if attained(middle) >= share:
            good = middle
        else:
            bad = middle
    return good


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest value that at least `share` of all do not exceed; infinite for none."""
    found = nearest_rank(values, share)
    return math.inf if found is None else found


def _share(records: Sequence[Record], met: Callable[[Record], bool]) -> float:
    return ratio(sum(map(met, records)), len(records))


def ratio(part: float, whole: float) -> float:
    """0 of nothing."""
    return part / whole if whole else 0.0


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return statistics.fmean(listed) if listed else math.inf
