"""Where a process listens, and where others reach it. Pure.

On one machine both are `cluster.bind_host`. On several no address is right everywhere, so each
process takes that of its own machine: Ray's nodes have to reach each other there in any case.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

OWN = "node"
"""As a bind host: the address that Ray knows the machine by."""


def spans_machines(bind_host: str) -> bool:
    """Whether processes that listen there are reached from other machines, wherever they run."""
    return bind_host == OWN or _is_any(bind_host)


def listen_at(bind_host: str, own: Callable[[], str]) -> str:
    """What to bind to. `own` tells the machine's address."""
    return own() if bind_host == OWN else bind_host


def reached_at(bind_host: str, own: Callable[[], str]) -> str:
    """What to tell others."""
    return own() if spans_machines(bind_host) else bind_host


def with_port(host: str, port: int) -> str:
    """host:port, in brackets where the host is an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_any(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
