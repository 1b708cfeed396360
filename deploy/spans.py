"""Where the spans of one process go, as the settings say."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from baton.settings import Settings

if TYPE_CHECKING:
    from deploy.otlp import OtlpSink


def span_sink(settings: Settings, service: str, instance: str) -> OtlpSink | None:
    """None where nothing is traced."""
    endpoint = settings.tracing.otlp_endpoint
    if endpoint is None:
        return None
    # Late: OpenTelemetry's SDK takes a while to import, and most clusters trace nothing.
    from deploy.otlp import OtlpSink

    return OtlpSink(endpoint, service, instance)


async def close_spans(sink: OtlpSink | None) -> None:
    """Sends what is queued; waits for seconds at most."""
    if sink is not None:
        await asyncio.to_thread(sink.close)
