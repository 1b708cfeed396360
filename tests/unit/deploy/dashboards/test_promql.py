"""Expressions are put together, filled in, and read for the metrics they name."""

from __future__ import annotations

import pytest

from deploy.dashboards.promql import (
    CLASS,
    CLUSTER,
    MODEL,
    filled,
    names,
    or_zero,
    part,
    quantile,
    sel,
    summed,
)


@pytest.mark.parametrize(
    ("expr", "found"),
    [
        (
            "sum by (role) (rate(baton_a_total[5m])) / baton:b:ratio_rate5m",
            {"baton_a_total", "baton:b:ratio_rate5m"},
        ),
        ('up{job=~"baton-.*"} < 1', {"up"}),
        ("baton_up_count", {"baton_up_count"}),
        ("vllm:c_bucket{role='x'} > 0", {"vllm:c_bucket"}),
        ("group_left (up)", {"up"}),
        ("label_values(baton_a, cluster)", set()),
    ],
)
def test_names(expr: str, found: set[str]) -> None:
    assert names(expr) == found


def test_a_quantile_sums_over_everything_but_what_is_named() -> None:
    assert quantile(0.9, "baton_x_seconds", "part") == (
        "histogram_quantile(0.9, sum by (le, part) "
        '(rate(baton_x_seconds_bucket{cluster=~"$cluster"}[$__rate_interval])))'
    )


def test_filling_in_takes_longer_names_first() -> None:
    expr = sel("baton_x", 'class=~"$class"') + "[$__rate_interval]"
    assert filled(expr, (CLUSTER, MODEL, CLASS), {"class": "gold"}) == (
        'baton_x{cluster=~".*",class=~"gold"}[30s]'
    )


def test_a_share_is_zero_as_long_as_the_part_has_no_series() -> None:
    every = summed("baton_x_total", "tenant")
    assert part("baton_x_total", "tenant", 'met="no"').endswith(f"or 0 * {every}) / {every}")
    assert or_zero("a").endswith("or vector(0)")
