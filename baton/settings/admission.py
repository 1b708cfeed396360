"""Who may send how much, and when the cluster says no."""

from typing import Annotated, Literal

from pydantic import Field

from baton.settings.section import Section

PriorityName = Literal["low", "normal", "high"]
DEFAULT_TENANT = "default"
"""Whoever names no tenant, or one that the settings do not have."""
TENANTS_MAX = 1000
TENANT_CHARS_MAX = 64
TenantName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class TenantSettings(Section):
    """One tenant: its share when not everything can be served, and its limits."""

    weight: float = Field(
        1.0, gt=0, description="Its share of an overloaded cluster, relative to other tenants."
    )
    priority: PriorityName = Field(
        "normal", description="low waits longer and is refused first, high is refused last."
    )
    requests_per_minute: int = Field(0, ge=0, description="Most requests per minute. 0 = no limit.")
    tokens_per_minute: int = Field(
        0,
        ge=0,
        description="Most tokens per minute: those of prompts, and those that answers are expected "
        "to have. 0 = no limit.",
    )
    concurrent_requests: int = Field(
        0, ge=0, description="Most requests at any moment. 0 = no limit."
    )
    slo_class: str | None = Field(
        None, description="Its class in slo.classes, whose promises it gets. null = `default`."
    )


class AdmissionSettings(Section):
    """What is let in when not everything can be served."""

    shed_at: float = Field(
        2.0,
        ge=0,
        description="A request that would have to wait is refused when its predicted TTFT, or the "
        "TPOT that it would find, is beyond so many times the promise (slo). 1 = whoever is let in "
        "is kept the promise, 2 = bursts may wait; 0 = nobody is refused for that.",
    )
    shed_low_at: float = Field(
        0.5, gt=0, le=1, description="The part of shed_at that is left to priority low."
    )
    tenants: dict[TenantName, TenantSettings] = Field(
        default_factory=dict,
        max_length=TENANTS_MAX,
        description="Tenants by name, as clients give it in the header x-baton-tenant. Requests "
        "of all others belong to the tenant `default`, which may be listed too. Limits are those "
        "of the whole host: each of its routers enforces its part.",
    )
