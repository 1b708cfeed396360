"""The ports of a cluster: it is found out early whether they are free, and they are kept.

Routers share each, with listening sockets of their own (SO_REUSEPORT). `baton serve` holds it
without listening: so all of them get the same one, also where any free one will do, and nobody else
gets it while the only router starts anew.
"""

from __future__ import annotations

import socket
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from urllib.parse import urlsplit

from baton.errors import StartupError, StartupFault
from baton.settings import Settings


def hold(settings: Settings, *, shared: bool = False) -> socket.socket:
    """The HTTP port, held for as long as the socket is open. Raises StartupError PORT_TAKEN.

    `shared`: routers of an earlier start may be there still; they are ended later.
    """
    return _hold(settings.router.host, settings.router.port, shared=shared)


def hold_grpc(
    settings: Settings, *, shared: bool = False
) -> AbstractContextManager[socket.socket | None]:
    """The gRPC port likewise; None where there is to be none."""
    port = settings.router.grpc_port_wanted
    if port is None:
        return nullcontext()
    hint = "Set router.grpc_port to a free port, or router.grpc to false."
    return _hold(settings.router.host, port, shared=shared, hint=hint)


def _hold(host: str, port: int, *, shared: bool, hint: str | None = None) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        family, address = found[0], found[4]
        if not shared:
            # Whoever shares a port does not find out whether somebody else does.
            _bound(family, address, socket.SO_REUSEADDR).close()
        return _held(family, address)
    except OSError as error:
        what = f"{host}:{port} cannot be listened on: {error.strerror or error}"
        raise StartupError(StartupFault.PORT_TAKEN, what, hint=hint) from error


def _held(family: int, address: Any) -> socket.socket:
    try:
        return _bound(family, address, socket.SO_REUSEPORT)
    except OSError:
        # The last connections of another program. It cannot be held as firmly, but had.
        return _bound(family, address, socket.SO_REUSEPORT, socket.SO_REUSEADDR)


def _bound(family: int, address: Any, *options: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        for option in options:
            sock.setsockopt(socket.SOL_SOCKET, option, 1)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


def on_port(settings: Settings, held: socket.socket, grpc: socket.socket | None = None) -> Settings:
    """The settings with the ports by their numbers."""
    update = {"port": int(held.getsockname()[1])}
    if grpc is not None:
        update["grpc_port"] = int(grpc.getsockname()[1])
    router = settings.router.model_copy(update=update)
    return settings.model_copy(update={"router": router})


def grpc_line(settings: Settings, url: str | None) -> str:
    """Where clients find gRPC, whose HTTP address is `url`; one line for people."""
    if not settings.router.grpc:
        return "gRPC: off"
    host = urlsplit(url or "").hostname or settings.router.host
    return f"gRPC: {host}:{settings.router.grpc_port_wanted}"
