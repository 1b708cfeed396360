"""The W3C header, both ways."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baton.spans import SpanContext, context_of

IDS = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("header", "sampled"),
    [(f"00-{IDS}-01", True), (f"00-{IDS}-00", False), (f"cc-{IDS}-03-more", True)],
)
def test_a_callers_span_is_found(header: str, sampled: bool) -> None:
    context = context_of(header)
    assert context is not None
    trace, span = IDS.split("-")
    assert context == SpanContext(int(trace, 16), int(span, 16), sampled)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00",
        f"00-{IDS}-1",
        f"ff-{IDS}-01",
        f"00-{IDS}-01-more",
        f"00-{IDS.upper()}-01",
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-4bf92f3577b34da6a3ce929d0e0e4736-{'0' * 16}-01",
    ],
)
def test_what_is_no_context_begins_a_trace(header: str) -> None:
    assert context_of(header) is None


@given(st.text(max_size=60))
def test_no_header_is_too_strange(header: str) -> None:
    context_of(header)


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.booleans())
def test_what_is_told_is_understood(trace_id: int, span_id: int, sampled: bool) -> None:
    context = SpanContext(trace_id, span_id, sampled)
    assert context_of(context.traceparent) == context
