"""The text is the one of prometheus-client."""

from __future__ import annotations

import math

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder
from prometheus_client.parser import text_string_to_metric_families

from router.exposition import rendered

TEXT = "text/plain"
OPEN = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;q=0.3"


@pytest.fixture
def registry() -> CollectorRegistry:
    one = CollectorRegistry(auto_describe=True)
    Counter("baton_a", 'Some "text" \\ of\ntwo lines.', ("z", "b"), registry=one).labels(
        'quoted "x"', "back\\slash\nline ü"
    ).inc(1e9)
    Counter("baton_none", "Without a row.", ("x",), registry=one)
    gauge = Gauge("baton_b", "Numbers.", ("n",), registry=one)
    for number in (0, -1.5, 1e-9, 123456.0, 1234567.25, 1e21, math.inf, -math.inf, math.nan):
        gauge.labels(str(number)).set(number)
    times = Histogram("baton_c_seconds", "Times.", ("class",), buckets=(0.1, 1), registry=one)
    times.labels("x").observe(0.5, {"trace_id": "0af", "request_id": 'r"1'})
    times.labels("x").observe(5.0)
    return one


@pytest.mark.parametrize("accept", [TEXT, OPEN, "", "*/*"])
def test_it_is_what_the_library_says_but_for_moments_of_making(
    registry: CollectorRegistry, accept: str
) -> None:
    encode, content_type = choose_encoder(accept)
    lines = encode(registry).decode().splitlines(keepends=True)
    expected = "".join(line for line in lines if "_created" not in line)
    text, said = rendered(registry, accept)
    assert said == content_type
    assert text.decode() == expected


def test_it_can_be_read_again(registry: CollectorRegistry) -> None:
    text = rendered(registry, TEXT)[0].decode()
    found = {family.name: family for family in text_string_to_metric_families(text)}
    assert found["baton_a"].samples[0].labels["b"] == "back\\slash\nline ü"
