"""Spans on their way to an OpenTelemetry collector, by OTLP over HTTP.

A thread of OpenTelemetry's sends them in batches; a queue of 2,048 is the bound, beyond which spans
are dropped. Imported only where spans are exported.
"""

from __future__ import annotations

import threading

from opentelemetry import trace as otel
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanKind
from opentelemetry.trace.status import Status, StatusCode

from baton.spans import Span, SpanContext

_EXPORT_TIMEOUT_S = 5
_EVERY_MS = 1000
_CLOSE_S = 1.0
_QUEUE_MAX, _BATCH_MAX = 2048, 512
_SCOPE = InstrumentationScope("baton")


class OtlpSink:
    """Exports the spans of this process. `service` and `instance` say which one it is."""

    def __init__(self, endpoint: str, service: str, instance: str) -> None:
        self._resource = Resource.create({"service.name": service, "service.instance.id": instance})
        self._exporter = OTLPSpanExporter(endpoint=endpoint, timeout=_EXPORT_TIMEOUT_S)
        self._batches = batches = BatchSpanProcessor(
            self._exporter,
            max_queue_size=_QUEUE_MAX,
            schedule_delay_millis=_EVERY_MS,
            max_export_batch_size=_BATCH_MAX,
        )
        # vLLM's spans go the same way: those of requests that are traced, and none of its own.
        provider = TracerProvider(ParentBased(ALWAYS_OFF), self._resource, shutdown_on_exit=False)
        provider.add_span_processor(batches)
        otel.set_tracer_provider(provider)

    def __call__(self, span: Span) -> None:
        """Queues a span."""
        self._batches.on_end(self._readable(span))

    def close(self) -> None:
        """Sends what is queued and ends the thread; waits for seconds at most."""
        # Else it would try again for half a minute where no collector answers.
        enough = threading.Timer(_CLOSE_S, self._exporter.shutdown)
        enough.start()
        self._batches.shutdown()  # type: ignore[no-untyped-call]
        enough.cancel()

    def _readable(self, span: Span) -> ReadableSpan:
        return ReadableSpan(
            span.name,
            _context(span.context),
            None if span.parent is None else _context(span.parent, remote=span.server),
            self._resource,
            dict(span.attributes),
            kind=SpanKind.SERVER if span.server else SpanKind.INTERNAL,
            status=Status(StatusCode.ERROR, span.error) if span.error else Status(),
            start_time=round(span.start_s * 1e9),
            end_time=round(span.end_s * 1e9),
            instrumentation_scope=_SCOPE,
        )


def _context(context: SpanContext, *, remote: bool = False) -> otel.SpanContext:
    flags = otel.TraceFlags(context.sampled)
    return otel.SpanContext(context.trace_id, context.span_id, remote, flags)
