"""Headers in, caller out."""

from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from router.caller import ANYBODY, Caller
from router.caller_headers import caller_of
from router.policy.tenants import Priority


@pytest.mark.parametrize(
    ("headers", "caller"),
    [
        ({}, ANYBODY),
        ({"X-Baton-Tenant": "a"}, Caller("a")),
        ({"x-baton-tenant": "a", "x-baton-priority": "Low"}, Caller("a", Priority.LOW)),
        ({"x-baton-priority": "normal"}, Caller(priority=Priority.NORMAL)),
        ({"x-baton-priority": "urgent"}, ANYBODY),
    ],
)
def test_what_the_headers_say(headers: dict[str, str], caller: Caller) -> None:
    assert caller_of(Headers(headers)) == caller
