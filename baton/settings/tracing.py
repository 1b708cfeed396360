"""Whether requests are traced, and where the spans go."""

from urllib.parse import urlsplit

from pydantic import Field, field_validator

from baton.settings.section import Section


class TracingSettings(Section):
    """Whether requests are traced, and where the spans go."""

    otlp_endpoint: str | None = Field(
        None,
        description="Where routers and workers send spans: the URL of an OpenTelemetry collector "
        "that takes OTLP over HTTP, such as http://localhost:4318/v1/traces. null = nothing is "
        "traced.",
    )
    sample_ratio: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Part of the requests without a traceparent that is traced. With one, its "
        "caller has decided.",
    )

    @field_validator("otlp_endpoint")
    @classmethod
    def _is_url(cls, endpoint: str | None) -> str | None:
        if endpoint is None:
            return None
        parts = urlsplit(endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(
                f"tracing.otlp_endpoint is {endpoint!r}; allowed: a URL such as "
                "http://localhost:4318/v1/traces"
            )
        return endpoint
