"""Spans of a distributed trace as plain values, and the W3C context that joins them.

Whoever measures makes `Span`s; whoever starts the process decides where they go. The context
travels as the header `traceparent` (W3C Trace Context, version 00).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

TRACEPARENT = "traceparent"
_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 1


@dataclass(frozen=True, slots=True)
class SpanContext:
    """One span's place: ids of 128 and 64 bits, never 0."""

    trace_id: int
    span_id: int
    sampled: bool = True

    @property
    def trace(self) -> str:
        """The trace's id as people and tools write it: 32 hexadecimal digits."""
        return f"{self.trace_id:032x}"

    @property
    def traceparent(self) -> str:
        """The header that makes another process's spans children of this one."""
        return f"00-{self.trace}-{self.span_id:016x}-{self.sampled:02x}"


def context_of(traceparent: str) -> SpanContext | None:
    """The caller's span. None where the header is absent or unreadable: then a trace begins here.

    Later versions are read as this one, as the standard wants it.
    """
    found = _FORM.fullmatch(traceparent)
    if found is None:
        return None
    version, trace, span, flags, more = found.groups()
    context = SpanContext(int(trace, 16), int(span, 16), bool(int(flags, 16) & _SAMPLED))
    well = version != "ff" and (version != "00" or not more)
    return context if well and context.trace_id and context.span_id else None


@dataclass(frozen=True, slots=True)
class Span:
    """What went on from `start_s` to `end_s`, seconds since 1970 on this machine's clock."""

    name: str
    context: SpanContext
    parent: SpanContext | None
    start_s: float
    end_s: float
    attributes: Mapping[str, str | int | float] = field(default_factory=dict)
    server: bool = False
    """Whether it is the answer to somebody's call."""
    error: str = ""
    """Why it failed; empty = it did not."""


SpanSink = Callable[[Span], None]
"""Takes a span to be exported. Neither blocks nor raises; spans that are too many are dropped."""
