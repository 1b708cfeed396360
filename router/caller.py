"""Who sends a request, from where it is heard to where the request is taken.

A context variable carries it through vLLM's server, which knows nothing of tenants.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import NamedTuple

from baton import prefix_keys
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
    operator: bool = True
    """Whether it may see the requests of all tenants; everybody may where nobody has a key."""
    own_cache: bool = False
    """Whether its tenant reuses the KV of its own prompts only."""

    @property
    def sees(self) -> str | None:
        """The tenant whose requests it may see; None = all of them."""
        return None if self.operator else self.tenant

    def cache_salt(self, wanted: str | None) -> str | None:
        """What the names of its KV blocks begin with; `wanted` is the client's own part."""
        return prefix_keys.tenant_salt(self.tenant, wanted or "") if self.own_cache else wanted


ANYBODY = Caller()
STRANGER = Caller("", operator=False)
"""Who was not asked for a key, and sees nobody's requests."""
CALLER: ContextVar[Caller] = ContextVar("baton_caller", default=ANYBODY)
