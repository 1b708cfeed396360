"""Where a worker's metrics can be read: a small HTTP server in a thread of its own."""

from __future__ import annotations

import threading
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry, start_http_server


class MetricsServer:
    """Serves one registry on any free port of `host` from the moment it is made until `stop`."""

    def __init__(self, host: str, registry: CollectorRegistry = REGISTRY) -> None:
        started: tuple[Any, threading.Thread] = start_http_server(0, host, registry)
        self._server, self._thread = started
        self._host = host

    @property
    def address(self) -> str:
        """host:port, in brackets where the host is an IPv6 address."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{host}:{self._server.server_port}"

    def stop(self) -> None:
        """Closes the port. Waits for half a second at most."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(1.0)
