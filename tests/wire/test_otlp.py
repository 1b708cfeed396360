"""Spans arrive at a collector as OTLP says, and a collector that is away costs nothing."""

from __future__ import annotations

import threading

from baton.spans import Span, SpanContext
from deploy.otlp import OtlpSink
from tests.collector import collecting

PARENT = SpanContext(2**100 + 1, 2**50 + 1)
SPAN = Span(
    "whole",
    SpanContext(PARENT.trace_id, 7),
    PARENT,
    1_000.5,
    1_001.25,
    {"baton.worker": "w", "tokens": 3, "seconds": 0.5},
    server=True,
    error="worker_lost",
)


def test_a_span_arrives_whole() -> None:
    with collecting() as collector:
        sink = OtlpSink(collector.url, "baton-router", "router-0")
        sink(SPAN)
        sink.close()
        (found,) = collector.spans()
    assert found.service == "baton-router"
    assert (found.span.trace_id, found.span.parent_span_id) == (
        PARENT.trace_id.to_bytes(16, "big"),
        PARENT.span_id.to_bytes(8, "big"),
    )
    assert (found.span.start_time_unix_nano, found.span.end_time_unix_nano) == (
        1_000_500_000_000,
        1_001_250_000_000,
    )
    assert found.span.status.message == "worker_lost"
    values = {a.key: a.value for a in found.span.attributes}
    assert (values["baton.worker"].string_value, values["tokens"].int_value) == ("w", 3)


def test_nobody_waits_for_a_collector_that_is_away() -> None:
    with collecting() as collector:
        url = collector.url
    sink = OtlpSink(url, "baton-router", "router-0")

    def tell_all() -> None:
        for _ in range(5000):
            sink(SPAN)
        sink.close()

    telling = threading.Thread(target=tell_all, daemon=True)
    telling.start()
    # Left to itself, the exporter would try for half a minute.
    telling.join(20)
    assert not telling.is_alive()
