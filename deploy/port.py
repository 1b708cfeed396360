"""The HTTP port of a cluster: it is found out early whether it is free, and kept until the end.

Routers share it, each with a listening socket of its own (SO_REUSEPORT). `baton serve` holds it
without listening: so all of them get the same one, also where any free one will do, and nobody else
gets it while the only router starts anew.
"""

from __future__ import annotations

import socket
from typing import Any

from baton.errors import StartupError, StartupFault
from baton.settings import Settings


def hold(settings: Settings, *, shared: bool = False) -> socket.socket:
    """The port, held for as long as the socket is open. Raises StartupError PORT_TAKEN.

    `shared`: routers of an earlier start may be there still; they are ended later.
    """
    host, port = settings.router.host, settings.router.port
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        family, address = found[0], found[4]
        if not shared:
            # Whoever shares a port does not find out whether somebody else does.
            _bound(family, address, socket.SO_REUSEADDR).close()
        return _held(family, address)
    except OSError as error:
        what = f"{host}:{port} cannot be listened on: {error.strerror or error}"
        raise StartupError(StartupFault.PORT_TAKEN, what) from error


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


def on_port(settings: Settings, held: socket.socket) -> Settings:
    """The settings with the port by its number."""
    router = settings.router.model_copy(update={"port": int(held.getsockname()[1])})
    return settings.model_copy(update={"router": router})
