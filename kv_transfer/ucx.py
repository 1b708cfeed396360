"""The environment that UCX reads when an engine loads it."""

from __future__ import annotations

from collections.abc import Mapping

from baton.settings.model import is_loopback


def ucx_environment(host: str, tls: str | None) -> Mapping[str, str]:
    """For an engine that peers reach at `host`, with these transports alone if any are named."""
    devices = {"UCX_NET_DEVICES": "lo"} if is_loopback(host) else {}
    return devices if tls is None else {**devices, "UCX_TLS": tls}
