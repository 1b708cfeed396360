"""Where a worker's metrics can be read: a small HTTP server in a thread of its own."""

from __future__ import annotations

import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest

_READ_S = 5.0


class MetricsServer:
    """Serves one registry on any free port of `host` from the moment it is made until `stop`.

    Always in the text format: in OpenMetrics prometheus-client writes `vllm:` as `vllm_`.
    """

    def __init__(self, host: str, registry: CollectorRegistry = REGISTRY) -> None:
        server = _IPv6Server if ":" in host else _Server
        self._server = server((host, 0), _handler(registry))
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="metrics", daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_port)

    def stop(self) -> None:
        """Closes the port. Waits for half a second at most."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(1.0)


class _Server(ThreadingHTTPServer):
    daemon_threads = True


class _IPv6Server(_Server):
    address_family = socket.AF_INET6


def _handler(registry: CollectorRegistry) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        # A scraper that sends nothing does not hold a thread for ever.
        timeout = _READ_S

        def do_GET(self) -> None:
            if self.path.partition("?")[0] != "/metrics":
                self.send_error(404)
                return
            page = generate_latest(registry)
            self.send_response(200)
            self.send_header("Content-Type", CONTENT_TYPE_LATEST)
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_words: object) -> None:
            """A scrape is no event."""

    return Handler
