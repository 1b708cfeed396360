"""Headers in, caller out."""

from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from baton.errors import Reason
from baton.spans import SpanContext
from router.caller import ANYBODY, Caller
from router.caller_headers import caller_of
from router.policy.tenants import Priority
from tests.unit.router.fakes import refused

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = SpanContext(int(TRACE, 16), 0xB7AD6B7169203331)


@pytest.mark.parametrize(
    ("headers", "caller"),
    [
        ({}, ANYBODY),
        ({"X-Baton-Tenant": "a"}, Caller("a")),
        ({"x-baton-tenant": "a", "x-baton-priority": "Low"}, Caller("a", Priority.LOW)),
        ({"x-baton-priority": "normal"}, Caller(priority=Priority.NORMAL)),
        ({"x-baton-timeout-s": "2.5"}, Caller(timeout_s=2.5)),
        ({"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}, Caller(trace=SPAN)),
        ({"traceparent": f"cc-{TRACE}-b7ad6b7169203331-01-more"}, Caller(trace=SPAN)),
        *(
            ({"traceparent": text}, ANYBODY)
            for text in (
                "",
                TRACE,
                f"ff-{TRACE}-b7ad6b7169203331-01",
                f"00-{'0' * 32}-b7ad6b7169203331-01",
                f"00-{TRACE}-{'0' * 16}-01",
                f"00-{TRACE.upper()}-b7ad6b7169203331-01",
                f"00-{TRACE}-b7ad6b7169203331-01\n",
            )
        ),
    ],
)
def test_what_the_headers_say(headers: dict[str, str], caller: Caller) -> None:
    assert caller_of(Headers(headers)) == caller


@pytest.mark.parametrize(
    "headers",
    [
        {"x-baton-priority": "urgent"},
        *({"x-baton-timeout-s": text} for text in ("", "soon", "0", "-1", "nan", "inf")),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(headers: dict[str, str]) -> None:
    error = refused(caller_of, Headers(headers))
    assert error.reason is Reason.INVALID_REQUEST
    assert error.param == next(iter(headers))


def test_a_name_has_as_many_letters_as_a_tenants_may() -> None:
    assert caller_of(Headers({"x-baton-tenant": "x" * 64})).tenant == "x" * 64
    error = refused(caller_of, Headers({"x-baton-tenant": "x" * 65}))
    assert (error.reason, error.param) == (Reason.INVALID_REQUEST, "x-baton-tenant")
