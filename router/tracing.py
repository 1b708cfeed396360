"""One request as a trace: a span for the whole, one for each part of its time to first token.

Attributes are those of OpenTelemetry's conventions for generative AI where it has a name. The
engines' own spans join by the `traceparent` that goes with both legs.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from baton.spans import TRACEPARENT, Span, SpanContext, SpanSink

_TRACE_BITS, _SPAN_BITS = 128, 64
_PROVIDER = "baton"
DECODE = "decode"
"""What follows the first token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """What is told of a request at its end. Durations in seconds."""

    request_id: str
    tenant: str
    prompt_tokens: int
    answer_tokens: int
    lasted_s: float
    """From its arrival."""
    parts: Sequence[tuple[str, float]]
    """Stretches of its time to first token, in order; they sum to it. None where no token came."""
    workers: Mapping[str, str]
    """By the name of the part that they worked on."""
    error: str = ""
    """The reason's name; empty = it finished."""


@dataclass(frozen=True, slots=True)
class Trace:
    """The span of a request that is under way. `tell` is called with it once, at its end."""

    context: SpanContext
    parent: SpanContext | None
    tell: Callable[[Trace, Traced], None]

    @property
    def headers(self) -> dict[str, str]:
        """What makes the engines' spans its children."""
        return {TRACEPARENT: self.context.traceparent}

    def ended(self, told: Traced) -> None:
        """Tells all its spans: it has just ended."""
        self.tell(self, told)


class Tracing:
    """Begins traces and tells their spans. `sample_ratio`: of those without a caller's word."""

    def __init__(
        self,
        sink: SpanSink,
        model: str,
        sample_ratio: float,
        *,
        bits: Callable[[int], int] = secrets.randbits,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._sink = sink
        self._model = model
        self._sample_ratio = sample_ratio
        self._bits = bits
        self._wall_clock = wall_clock

    def begin(self, parent: SpanContext | None) -> Trace | None:
        """The trace of a request of this caller's span, or of no known one; None = it has none."""
        trace_id = self._id(_TRACE_BITS) if parent is None else parent.trace_id
        if not self._sampled(parent, trace_id):
            return None
        return Trace(SpanContext(trace_id, self._id(_SPAN_BITS)), parent, self._tell)

    def _tell(self, trace: Trace, told: Traced) -> None:
        began_s = self._wall_clock() - told.lasted_s
        self._sink(_whole(trace, told, self._model, began_s))
        for name, from_s, to_s in _parts(told):
            context = SpanContext(trace.context.trace_id, self._id(_SPAN_BITS))
            worker = told.workers.get(name)
            attributes = {} if worker is None else {"baton.worker": worker}
            at_s = began_s + from_s, began_s + to_s
            self._sink(Span(name, context, trace.context, *at_s, attributes))

    def _sampled(self, parent: SpanContext | None, trace_id: int) -> bool:
        if parent is not None:
            return parent.sampled
        # Its low bits are the random ones (W3C): every service that samples so agrees.
        return trace_id % 2**32 < self._sample_ratio * 2**32

    def _id(self, bits: int) -> int:
        return self._bits(bits) or 1


def _whole(trace: Trace, told: Traced, model: str, began_s: float) -> Span:
    attributes: dict[str, str | int | float] = {
        "gen_ai.operation.name": "text_completion",
        "gen_ai.provider.name": _PROVIDER,
        "gen_ai.request.model": model,
        "gen_ai.usage.input_tokens": told.prompt_tokens,
        "gen_ai.usage.output_tokens": told.answer_tokens,
        "baton.request_id": told.request_id,
        "baton.tenant": told.tenant,
    }
    if told.parts:
        attributes["gen_ai.server.time_to_first_token"] = sum(s for _, s in told.parts)
    if told.error:
        attributes["error.type"] = told.error
    return Span(
        f"text_completion {model}",
        trace.context,
        trace.parent,
        began_s,
        began_s + told.lasted_s,
        attributes,
        server=True,
        error=told.error,
    )


def _parts(told: Traced) -> Iterator[tuple[str, float, float]]:
    """Name, start and end of each part that took any time, from the request's arrival."""
    at_s = 0.0
    for name, seconds in told.parts:
        if seconds > 0:
            yield name, at_s, at_s + seconds
        at_s += seconds
    if told.parts:
        yield DECODE, at_s, max(told.lasted_s, at_s)
