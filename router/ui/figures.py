"""What `/metrics` says, read back: the page computes from nothing else that can be counted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric

TTFT = "baton_time_to_first_token_seconds_bucket"
TPOT = "baton_tpot_seconds_bucket"
REQUESTS = "baton_requests_total"
REFUSALS = "baton_refusals_total"
INFLIGHT = "baton_inflight_requests"
QUEUED = "baton_queued_requests"
CHOICES = "baton_choices_total"
PREFILL_CHOICES = "baton_prefill_choices_total"
DECODE_CHOICES = "baton_decode_choices_total"
MOVED = "baton_rebalanced_requests_total"
RETRIES = "baton_retries_total"
ATTAINED = "baton_slo_attainment_ratio"
COUNTED = (TTFT, TPOT, REQUESTS, REFUSALS)
"""What history is made of."""
SHOWN = (
    *COUNTED,
    INFLIGHT,
    QUEUED,
    CHOICES,
    PREFILL_CHOICES,
    DECODE_CHOICES,
    MOVED,
    RETRIES,
    ATTAINED,
)

Sample = tuple[Mapping[str, str], float]


@dataclass(frozen=True, slots=True)
class Buckets:
    """A histogram: counts up to each bound, as Prometheus counts them. Bounds in seconds."""

    bounds: tuple[float, ...] = ()
    counts: tuple[float, ...] = ()

    @property
    def count(self) -> float:
        """All of them."""
        return self.counts[-1] if self.counts else 0.0

    def since(self, earlier: Buckets) -> Buckets:
        """What came after `earlier`, a reading of the same histogram or of one just begun."""
        if earlier.bounds != self.bounds:
            return self
        counts = (
            max(now - then, 0.0) for now, then in zip(self.counts, earlier.counts, strict=True)
        )
        return Buckets(self.bounds, tuple(counts))

    def quantile(self, share: float) -> float | None:
        """As Prometheus' histogram_quantile: within a bucket all are taken to be spread evenly.

        None of none; what lies above the last bound counts as the last bound.
        """
        rank = share * self.count
        if self.count <= 0:
            return None
        edges = pairwise(((0.0, 0.0), *zip(self.bounds, self.counts, strict=True)))
        for (low, below), (high, upto) in edges:
            if upto >= rank and upto > below:
                return (
                    low
                    if high == float("inf")
                    else low + (high - low) * (rank - below) / (upto - below)
                )
        return None


NOTHING = Buckets()


@dataclass(frozen=True, slots=True)
class Figures:
    """The samples of one reading, by name."""

    samples: Mapping[str, list[Sample]] = field(default_factory=dict)

    def total(self, name: str) -> float:
        """The sum over all labels."""
        return sum(value for _, value in self.samples.get(name, ()))

    def by(self, name: str, label: str) -> dict[str, float]:
        """Sums by one label, those above 0, the largest first."""
        found: dict[str, float] = {}
        for labels, value in self.samples.get(name, ()):
            word = labels.get(label, "")
            found[word] = found.get(word, 0.0) + value
        ordered = sorted(found.items(), key=lambda item: (-item[1], item[0]))
        return {word: value for word, value in ordered if value > 0}

    def buckets(self, name: str) -> Buckets:
        """A histogram, the sum over all its other labels."""
        found: dict[float, float] = {}
        for labels, value in self.samples.get(name, ()):
            bound = float(labels["le"])
            found[bound] = found.get(bound, 0.0) + value
        rows = sorted(found.items())
        return Buckets(tuple(bound for bound, _ in rows), tuple(value for _, value in rows))


def read(registry: CollectorRegistry, names: Iterable[str]) -> Figures:
    """These samples now. Those that nobody registered are missing."""
    return gathered(registry.restricted_registry(list(names)).collect())


def gathered(metrics: Iterable[Metric]) -> Figures:
    """The samples of these metrics."""
    found: dict[str, list[Sample]] = {}
    for metric in metrics:
        for sample in metric.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return Figures(found)
