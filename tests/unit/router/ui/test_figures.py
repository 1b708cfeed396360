"""Reading the metrics back."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram

from router.ui.figures import NOTHING, Buckets, Figures, read

INF = float("inf")
TEN = Buckets((0.1, 0.2, 0.4, INF), (2, 6, 10, 10))
"""Two up to 0.1 s, four up to 0.2 s, four up to 0.4 s."""


@pytest.mark.parametrize(
    ("share", "seconds"),
    [(0.1, 0.05), (0.2, 0.1), (0.4, 0.15), (0.6, 0.2), (0.9, 0.35), (1.0, 0.4)],
)
def test_a_quantile_lies_evenly_within_its_bucket(share: float, seconds: float) -> None:
    assert TEN.quantile(share) == pytest.approx(seconds)


def test_above_the_last_bound_is_the_last_bound() -> None:
    assert Buckets((0.1, INF), (1, 10)).quantile(0.9) == 0.1


def test_of_nothing_there_is_no_quantile() -> None:
    assert NOTHING.quantile(0.5) is None
    assert TEN.since(TEN).quantile(0.5) is None


def test_what_came_since() -> None:
    earlier = Buckets(TEN.bounds, (2, 3, 3, 3))
    assert TEN.since(earlier).counts == (0, 3, 7, 7)
    assert TEN.since(NOTHING) == TEN


def test_what_is_read_is_what_was_counted() -> None:
    registry = CollectorRegistry(auto_describe=True)
    counter = Counter("a", "A.", ["reason", "other"], registry=registry)
    Counter("b", "B.", registry=registry).inc(9)
    for reason, other, number in (("x", "1", 1), ("y", "1", 2), ("x", "2", 3), ("z", "1", 0)):
        counter.labels(reason, other).inc(number)
    times = Histogram("t_seconds", "T.", buckets=(0.1, 1), registry=registry)
    times.observe(0.05)
    times.observe(0.5)
    found = read(registry, ["a_total", "t_seconds_bucket"])
    assert set(found.samples) == {"a_total", "t_seconds_bucket"}
    assert found.total("a_total") == 6
    assert list(found.by("a_total", "reason").items()) == [("x", 4), ("y", 2)]
    assert found.buckets("t_seconds_bucket") == Buckets((0.1, 1, INF), (1, 2, 2))
    assert (found.total("b_total"), Figures().by("b_total", "reason")) == (0, {})


def test_a_histogram_with_labels_is_the_sum_over_them() -> None:
    rows = [({"class": c, "le": le}, n) for c in "ab" for le, n in (("+Inf", 3.0), ("0.5", 1.0))]
    assert Figures({"t": rows}).buckets("t") == Buckets((0.5, INF), (2, 6))
