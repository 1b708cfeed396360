"""The router's listening socket and the HTTP server on it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from ssl import SSLContext
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from baton.errors import StartupError, StartupFault
from baton.tasks import OnFault, Tasks
from router.exchange import ARRIVED_KEY

_BACKLOG = 2048
_KEEP_ALIVE_S = 75
_LISTENING = "0A"
HEAD_BYTES_MAX = 64 * 1024
"""Request line and headers, besides what came with their beginning: 256 KiB at most."""


def bind(host: str, port: int, *, reuse_port: bool = False) -> socket.socket:
    """A listening TCP socket; port 0 means any free one.

    Raises StartupError PORT_TAKEN, naming the process that holds the port where that can be
    found out. `reuse_port` lets several routers share one port.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reuse_port:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        sock.bind((host, port))
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise _cannot_bind(host, port, error) from error
    sock.setblocking(False)
    return sock


def _cannot_bind(host: str, port: int, error: OSError) -> StartupError:
    if error.errno != errno.EADDRINUSE:
        return StartupError(
            StartupFault.SETTINGS_INVALID,
            f"Cannot listen on {host}:{port}: {error.strerror or error}",
            hint="Set router.host to an address of this machine, and router.port to one that "
            "this user may open.",
        )
    holder = _holder(port)
    details = (f"It is held by {holder}.",) if holder else ()
    return StartupError(
        StartupFault.PORT_TAKEN, f"Port {port} on {host} is already in use.", details=details
    )


def _holder(port: int, proc: Path = Path("/proc")) -> str:
    """The process that listens on a port, as far as this user may know; else empty."""
    wanted = {f"socket:[{inode}]" for inode in _inodes(port, proc)}
    # Not every folder of /proc may be read, and any of them may vanish under way.
    for folder in proc.glob("[0-9]*") if wanted else ():
        with contextlib.suppress(OSError):
            if any(str(fd.readlink()) in wanted for fd in (folder / "fd").iterdir()):
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
                return f"process {folder.name} ({command[:120]})"
    return ""


def _inodes(port: int, proc: Path) -> Iterator[str]:
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in (proc / "net" / table).read_text().splitlines()[1:]:
                words = line.split()
                if words[3] == _LISTENING and int(words[1].rpartition(":")[2], 16) == port:
                    yield words[9]


class _Protocol(HttpToolsProtocol):
    """uvicorn's, with a bound for headers, which uvicorn itself takes of any length.

    Notes when a request's first bytes are read: before the app has its turn.
    """

    _kept_bytes = 0
    """What the parser keeps of a header, or of one behind a body, that has no end yet."""

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        self._kept_bytes += len(data)
        super().data_received(data)
        if self._kept_bytes > HEAD_BYTES_MAX and not self.transport.is_closing():
            self.send_400_response("The headers are too long.")

    def on_headers_complete(self) -> None:
        """The parser has seen the end of a request's headers."""
        self._kept_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """The parser has passed on a part of a body."""
        self._kept_bytes = 0
        super().on_body(body)

    def on_message_begin(self) -> None:
        """The parser has seen the beginning of a request."""
        # What comes at once with its beginning is bounded by the size of a read.
        self._kept_bytes = 0
        super().on_message_begin()
        scope: dict[str, Any] = vars(self)["scope"]
        scope[ARRIVED_KEY] = time.monotonic()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.settled = asyncio.Event()
        """Set when starting has ended, well or not."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves signals to whoever owns the process."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, and says when it is through."""
        await super().startup(sockets)
        self.settled.set()


class HttpServer:
    """A running HTTP server; `serve` makes it."""

    def __init__(
        self, server: _Server, sock: socket.socket, tasks: Tasks, running: asyncio.Task[None]
    ) -> None:
        self._server = server
        self._sock = sock
        self._tasks = tasks
        self._running = running

    @property
    def port(self) -> int:
        """The port it listens on."""
        port: int = self._sock.getsockname()[1]
        return port

    @property
    def uvicorn(self) -> uvicorn.Server:
        """The server itself, for whoever ends it in another way than `stop`."""
        return self._server

    async def stop(self, timeout_s: float) -> None:
        """Takes no new connections, gives requests `timeout_s` seconds, then cuts them off."""
        self._server.config.timeout_graceful_shutdown = max(1, round(timeout_s))
        self._server.should_exit = True
        # Uvicorn looks at `should_exit` ten times a second and then keeps its own time.
        await asyncio.wait({self._running}, timeout=timeout_s + 2)
        await self._tasks.aclose()
        self._sock.close()


async def serve(
    app: ASGIApp,
    sock: socket.socket,
    *,
    on_fault: OnFault | None = None,
    tls: SSLContext | None = None,
) -> HttpServer:
    """Serves an app on a bound socket, in the running event loop, and takes no signals.

    Returns when requests are accepted. Raises StartupError if the app does not start.
    `on_fault` hears of a server that ends without `stop`. `tls`: None = without encryption.
    """
    server, tasks = _Server(_config(app, tls)), Tasks("http")
    running = tasks.spawn(server.serve(sockets=[sock]), "server", on_fault=on_fault)
    settled = tasks.spawn(server.settled.wait(), "settled")
    await asyncio.wait({running, settled}, return_when=asyncio.FIRST_COMPLETED)
    if not server.started:
        await tasks.aclose()
        raise StartupError(StartupFault.ENGINE_CRASHED, "The HTTP server did not start.")
    return HttpServer(server, sock, tasks, running)


def _config(app: ASGIApp, tls: SSLContext | None) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        ssl_context_factory=None if tls is None else lambda *_: tls,
    )
