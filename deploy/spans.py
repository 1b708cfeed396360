"""Where the spans of one process go, as the settings say."""

from __future__ import annotations

from baton.settings import Settings
from baton.spans import SpanSink


def span_sink(settings: Settings, service: str, instance: str) -> SpanSink | None:
    """None where nothing is traced. What is queued is sent when the process ends well."""
    endpoint = settings.tracing.otlp_endpoint
    if endpoint is None:
        return None
    # Late: OpenTelemetry's SDK takes a while to import, and most clusters trace nothing.
    from deploy.otlp import OtlpSink

    return OtlpSink(endpoint, service, instance)
