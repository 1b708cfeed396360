"""The parts of TTFT and TPOT as histograms."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Histogram

from router.split import Part, Split, TokenPart, TokenSplit

_TTFT_PART_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_TPOT_PART_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)


class SplitMetrics:
    """Every request is observed once in each part, so that the sums of the parts add up too."""

    def __init__(self) -> None:
        self._first = Histogram(
            "baton_ttft_part_seconds",
            "From a request's coming to its first token, by part; see docs/ttft-split.md.",
            ("part",),
            registry=None,
            buckets=_TTFT_PART_S,
        )
        self._later = Histogram(
            "baton_tpot_part_seconds",
            "Per output token after the first one, a request's mean, by part.",
            ("part",),
            registry=None,
            buckets=_TPOT_PART_S,
        )
        self._first_by = [(part, self._first.labels(part.value)) for part in Part]
        self._later_by = [(part, self._later.labels(part.value)) for part in TokenPart]

    def first_token(self, split: Split) -> None:
        """A first token was written."""
        for part, histogram in self._first_by:
            histogram.observe(split.seconds(part))

    def answered(self, split: TokenSplit | None) -> None:
        """An answer is complete; None for one of a single token."""
        if split is None:
            return
        for part, histogram in self._later_by:
            histogram.observe(split.seconds(part))

    def register(self, registry: CollectorRegistry) -> None:
        """Both histograms are to be told there."""
        registry.register(self._first)
        registry.register(self._later)
