"""Who makes a gRPC call: its metadata as the headers of HTTP, and its deadline."""

from __future__ import annotations

from typing import Any

from starlette.datastructures import Headers

from baton.errors import BatonError, Reason
from baton.spans import TRACEPARENT
from router.access import OPEN, Access
from router.caller import Caller
from router.caller_headers import PRIORITY_HEADER, TENANT_HEADER, caller_of
from router.policy.tenants import Priority

_READ = frozenset({"authorization", "x-api-key", TENANT_HEADER, PRIORITY_HEADER, TRACEPARENT})
_LEAST_S = 0.001
_AHEAD_S = 0.15
"""How long before the end of a call its request ends, so that it is told and counted as late."""


def caller_of_call(context: Any, access: Access = OPEN) -> Caller:
    """Who calls, and how long they wait from now on.

    Raises BatonError for metadata that cannot be read and for callers who are not let in.
    """
    headers = _headers(context.invocation_metadata() or ())
    return timed(caller_of(headers, access), context)


def timed(caller: Caller, context: Any) -> Caller:
    """The same caller with what is left of the call's own deadline, which counts, no header.

    A little less than that: once gRPC's deadline has passed, the call is merely cancelled.
    """
    if (left_s := context.time_remaining()) is None:
        return caller
    ahead_s = min(_AHEAD_S, left_s / 4)
    return caller._replace(timeout_s=max(left_s - ahead_s, _LEAST_S))


def lowered(caller: Caller, wanted: int) -> Caller:
    """The same caller with the priority that a message names, which can only lower its own.

    0 = none, 1 to 3 = low to high. Raises BatonError for other numbers.
    """
    if wanted == 0:
        return caller
    if not 0 < wanted <= len(Priority):
        raise BatonError(
            Reason.INVALID_REQUEST, f"There is no priority {wanted}.", param="priority"
        )
    return caller._replace(priority=min(caller.priority, Priority(wanted - 1)))


def _headers(metadata: Any) -> Headers:
    named = ((key, value) for key, value in metadata if key in _READ)
    return Headers(raw=[(key.encode(), _raw(value)) for key, value in named])


def _raw(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("latin-1", "replace")
