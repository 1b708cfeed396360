"""Legs of traced requests are told, and nothing else."""

from __future__ import annotations

import itertools

from baton.spans import Span, SpanContext
from engine.leg_spans import LegSpans

PARENT = SpanContext(5, 6)
HEADERS = {"traceparent": PARENT.traceparent}


def legs(spans: list[Span]) -> LegSpans:
    seconds = itertools.count(100)
    return LegSpans(spans.append, "prefill-0", lambda: float(next(seconds)))


def test_a_leg_of_a_traced_request_is_its_child() -> None:
    spans: list[Span] = []
    its = legs(spans)
    its.began("r.0.p", HEADERS)
    its.ended("r.0.p")
    (span,) = spans
    assert (span.name, span.parent, span.context.trace_id) == ("prefill leg", PARENT, 5)
    assert (span.start_s, span.end_s, span.error) == (100.0, 101.0, "")
    assert span.attributes == {"baton.worker": "prefill-0", "baton.leg": "r.0.p"}


def test_a_leg_ends_once() -> None:
    spans: list[Span] = []
    its = legs(spans)
    its.began("r.0.d", HEADERS)
    its.ended("r.0.d", "aborted")
    its.ended("r.0.d")
    assert [span.error for span in spans] == ["aborted"]


def test_all_that_are_open_end_with_their_engine() -> None:
    spans: list[Span] = []
    its = legs(spans)
    for leg_id in ("r.0.p", "r.0.d", "q.0.s"):
        its.began(leg_id, HEADERS)
    its.ended("r.0.d")
    its.all_ended("failed")
    its.all_ended("failed")
    assert [(span.name, span.error) for span in spans] == [
        ("decode leg", ""),
        ("prefill leg", "failed"),
        ("solo leg", "failed"),
    ]


def test_what_is_no_leg_is_not_told() -> None:
    spans: list[Span] = []
    its = legs(spans)
    its.began("anything", HEADERS)
    its.ended("anything")
    assert spans == []


def test_others_are_not_told() -> None:
    spans: list[Span] = []
    its = legs(spans)
    unsampled = SpanContext(5, 6, sampled=False).traceparent
    for headers in (None, {}, {"traceparent": "nonsense"}, {"traceparent": unsampled}):
        its.began("r.0.s", headers)
        its.ended("r.0.s")
    nowhere = LegSpans(None, "prefill-0")
    nowhere.began("r.0.s", HEADERS)
    nowhere.ended("r.0.s")
    assert spans == []
