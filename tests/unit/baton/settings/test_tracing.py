"""Where spans go has to be a URL."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from baton.settings.tracing import TracingSettings


def test_nothing_is_traced_by_default() -> None:
    assert TracingSettings().otlp_endpoint is None


@pytest.mark.parametrize("url", ["http://localhost:4318/v1/traces", "https://c.example/x"])
def test_a_collectors_url_is_taken(url: str) -> None:
    assert TracingSettings(otlp_endpoint=url).otlp_endpoint == url


@pytest.mark.parametrize("url", ["", "localhost:4318", "grpc://localhost:4317", "http://"])
def test_anything_else_is_refused_by_name(url: str) -> None:
    with pytest.raises(ValidationError, match="otlp_endpoint"):
        TracingSettings(otlp_endpoint=url)
