"""The trace of one disaggregated request, from its caller to both engines, as documented."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest

from baton.spans import SpanContext
from benchmarks.served import Served
from tests.cluster.asking import BACK_S, LONG_PROMPT, SHORT, serves, until
from tests.collector import Collected, Collector

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(200)]

CALLER = SpanContext(0x5EED, 0xCA11E7)
DOCUMENT = Path(__file__).parents[3] / "docs" / "tracing.md"
BODY = {**LONG_PROMPT, "prompt": "trace " * 1500, "max_tokens": 24, "stream": True}
ALWAYS = {
    *("text_completion baton-demo", "admission_queue", "prefill_compute", "first_decode_step"),
    *("delivery", "decode", "prefill leg", "decode leg", "llm_request"),
}
SOMETIMES = {"    exposed_transfer [baton-router] decode-0"}
"""What took no time has no span."""
_TREE = re.compile(r"```\n(caller.*?)```", re.DOTALL)


def _tree(spans: Sequence[Collected], parent: int, depth: int = 1) -> Iterator[str]:
    """One line per span: its name and service, where it ran, what it took."""
    below = [s for s in spans if int.from_bytes(s.span.parent_span_id, "big") == parent]
    for one in sorted(below, key=lambda s: (s.span.start_time_unix_nano, s.span.name)):
        values = {a.key: a.value.string_value for a in one.span.attributes}
        took_ms = (one.span.end_time_unix_nano - one.span.start_time_unix_nano) / 1e6
        where = values.get("baton.worker", "")
        yield f"{'  ' * depth}{one.span.name} [{one.service}] {where} {took_ms:.1f} ms"
        yield from _tree(spans, int.from_bytes(one.span.span_id, "big"), depth + 1)


def _lines(tree: str) -> set[str]:
    """Without what differs from run to run: times, and the order of what goes on side by side."""
    return {re.sub(r" +[\d.]+ ms", "", line) for line in tree.splitlines()}


def test_a_request_is_one_trace(served: Served, collector: Collector) -> None:
    until(lambda: serves(served), BACK_S, "service")
    header = {"traceparent": CALLER.traceparent}
    answer = httpx.post(f"{served.url}/v1/completions", json=BODY, headers=header, timeout=60)
    assert answer.status_code == 200

    def ours() -> list[Collected]:
        trace_id = CALLER.trace_id.to_bytes(16, "big")
        return [s for s in collector.spans() if s.span.trace_id == trace_id]

    until(lambda: {s.span.name for s in ours()} >= ALWAYS, 30, "all spans have come")
    tree = "\n".join(["caller", *_tree(ours(), CALLER.span_id)])
    print(tree)
    documented = _TREE.search(DOCUMENT.read_text())
    assert documented is not None
    assert _lines(tree) <= _lines(documented.group(1)) | SOMETIMES
    assert len(tree.splitlines()) == len(ours()) + 1, "every span has its place"
    whole, *_ = (s.span for s in ours() if s.span.name.startswith("text_completion"))
    assert all(
        whole.start_time_unix_nano - 1e6 <= s.span.start_time_unix_nano
        and s.span.end_time_unix_nano <= whole.end_time_unix_nano + 50e6
        for s in ours()
    )


def test_who_does_not_ask_is_not_traced(served: Served, collector: Collector) -> None:
    before = {s.span.trace_id for s in collector.spans()}
    assert serves(served)
    # Spans leave in their order: once this one is here, the others would be.
    late = SpanContext(0x1A7E, 0xCA11E7)
    body = {**SHORT, "prompt": "late"}
    header = {"traceparent": late.traceparent}
    answer = httpx.post(f"{served.url}/v1/completions", json=body, headers=header, timeout=60)
    assert answer.status_code == 200
    asked = late.trace_id.to_bytes(16, "big")
    until(lambda: asked in {s.span.trace_id for s in collector.spans()}, 20, "its trace")
    assert {s.span.trace_id for s in collector.spans()} - before == {asked}
