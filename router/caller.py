"""Who sends a request, from where it is heard to where the request is taken.

A context variable carries it through vLLM's server, which knows nothing of tenants.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import NamedTuple

from baton.settings.admission import DEFAULT_TENANT
from baton.spans import SpanContext
from router.policy.tenants import DoorPass, Priority


class Caller(NamedTuple):
    """`priority` can only lower that of the tenant."""

    tenant: str = DEFAULT_TENANT
    priority: Priority = Priority.HIGH
    timeout_s: float | None = None
    """Seconds the caller gives the whole answer; None = the router's own limit."""
    door_pass: DoorPass | None = None
    """That of this request, where it was let in before it was read."""
    trace: SpanContext | None = None
    """The span of the caller's that asks, by the W3C trace context; None = it names none."""


ANYBODY = Caller()
CALLER: ContextVar[Caller] = ContextVar("baton_caller", default=ANYBODY)
