"""Legs of traced requests as spans of this worker, joined to the request's by its `traceparent`."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from baton.ids import Leg, parse_leg_id
from baton.spans import TRACEPARENT, Span, SpanContext, SpanSink, context_of

_NAMES = {Leg.PREFILL: "prefill leg", Leg.DECODE: "decode leg", Leg.SOLO: "solo leg"}


@dataclass(slots=True)
class _Open:
    name: str
    parent: SpanContext
    began_s: float


class LegSpans:
    """Bounded by the legs of the worker. Without a sink nothing is traced."""

    def __init__(
        self,
        sink: SpanSink | None,
        worker_id: str,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._sink = sink
        self._worker_id = worker_id
        self._wall_clock = wall_clock
        self._open: dict[str, _Open] = {}

    def began(self, leg_id: str, trace_headers: Mapping[str, str] | None) -> None:
        """A leg goes to the engine, with the headers that its request came with."""
        if self._sink is None or not trace_headers:
            return
        parent = context_of(trace_headers.get(TRACEPARENT, ""))
        name = _name(leg_id)
        if parent is not None and parent.sampled and name:
            self._open[leg_id] = _Open(name, parent, self._wall_clock())

    def ended(self, leg_id: str, error: str = "") -> None:
        """It has ended; `error` says how, if not well."""
        one = self._open.pop(leg_id, None)
        if one is None or self._sink is None:
            return
        context = SpanContext(one.parent.trace_id, secrets.randbits(64) or 1)
        attributes = {"baton.worker": self._worker_id, "baton.leg": leg_id}
        span = Span(
            one.name,
            context,
            one.parent,
            one.began_s,
            self._wall_clock(),
            attributes,
            server=True,
            error=error,
        )
        self._sink(span)

    def all_ended(self, error: str) -> None:
        """All that are open have ended so."""
        for leg_id in list(self._open):
            self.ended(leg_id, error)


def _name(leg_id: str) -> str:
    """Empty for an id that is not a leg's."""
    try:
        return _NAMES[parse_leg_id(leg_id).leg]
    except ValueError:
        return ""
