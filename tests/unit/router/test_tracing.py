"""Requests as spans: who decides, what is told, and that the parts lie side by side."""

from __future__ import annotations

import itertools

import pytest

from baton.spans import Span, SpanContext
from router.tracing import Traced, Tracing

PARENT = SpanContext(0xABC, 0xDEF)
PARTS = (
    ("admission_queue", 0.1),
    ("prefill_queue", 0.0),
    ("prefill_compute", 0.4),
    ("delivery", 0.1),
)


def told(**changes: object) -> Traced:
    base: dict = {
        "request_id": "r1",
        "tenant": "default",
        "prompt_tokens": 7,
        "answer_tokens": 3,
        "lasted_s": 2.0,
        "parts": PARTS,
        "workers": {"prefill_compute": "prefill-0"},
    }
    return Traced(**{**base, **changes})


def tracing(spans: list[Span], ratio: float = 1.0, first: int = 1) -> Tracing:
    numbers = itertools.count(first)
    return Tracing(
        spans.append, "demo", ratio, bits=lambda _: next(numbers), wall_clock=lambda: 1000.0
    )


def test_a_callers_trace_goes_on() -> None:
    trace = tracing([], 0.0).begin(PARENT)
    assert trace is not None
    assert (trace.context.trace_id, trace.parent) == (PARENT.trace_id, PARENT)
    assert trace.headers["traceparent"].split("-")[1:3] == [f"{0xABC:032x}", f"{1:016x}"]


def test_a_caller_who_does_not_trace_is_not_traced() -> None:
    unsampled = SpanContext(1, 2, sampled=False)
    assert tracing([]).begin(unsampled) is None


@pytest.mark.parametrize(("ratio", "traced"), [(0.0, False), (0.25, False), (0.75, True)])
def test_without_a_caller_the_share_decides(ratio: float, traced: bool) -> None:
    trace = tracing([], ratio, first=2**31).begin(None)
    assert (trace is not None) is traced


def test_the_parts_lie_side_by_side_within_the_whole() -> None:
    spans: list[Span] = []
    its = tracing(spans)
    trace = its.begin(PARENT)
    assert trace is not None
    trace.ended(told())
    whole, *parts = spans
    assert (whole.start_s, whole.end_s, whole.parent) == (998.0, 1000.0, PARENT)
    assert whole.server
    assert whole.attributes["gen_ai.usage.output_tokens"] == 3
    assert whole.attributes["gen_ai.server.time_to_first_token"] == pytest.approx(0.6)
    assert [span.name for span in parts] == [
        "admission_queue",
        "prefill_compute",
        "delivery",
        "decode",
    ]
    assert all(span.parent == whole.context for span in parts)
    edges = [whole.start_s, *(span.end_s for span in parts)]
    assert [span.start_s for span in parts] == pytest.approx(edges[:-1])
    assert edges[-1] == whole.end_s
    assert parts[1].attributes == {"baton.worker": "prefill-0"}
    assert len({span.context.span_id for span in spans}) == len(spans)


def test_what_failed_before_its_first_token_is_one_span() -> None:
    spans: list[Span] = []
    its = tracing(spans)
    trace = its.begin(None)
    assert trace is not None
    trace.ended(told(parts=(), error="worker_lost"))
    (whole,) = spans
    assert (whole.error, whole.attributes["error.type"]) == ("worker_lost", "worker_lost")
    assert whole.parent is None
