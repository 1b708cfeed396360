"""A listening socket goes from a router to its successor, and no client notices.

Closing a listening socket resets the connections that wait in it; handing it over leaves them where
they are. It goes over a Unix socket without a file, under a name that nobody can guess, and only to
a process of the same user.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import struct
import threading

_ENOUGH_S = 30.0
"""A successor comes for the socket at once, or not at all."""
_TAKE_S = 5.0
_GREETING = b"door"
_CREDENTIALS = struct.Struct("3i")


class Offer:
    """One socket, offered to a successor. Each `open` is for one, and ends by itself."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def open(self) -> str:
        """The name under which the socket can be fetched, for a while."""
        name = f"baton-{secrets.token_hex(16)}"
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(f"\0{name}")
        listener.listen(1)
        listener.settimeout(_ENOUGH_S)
        # A thread of its own: the event loop has its hands full with clients.
        threading.Thread(target=self._wait, args=(listener,), name="offer", daemon=True).start()
        return name

    def _wait(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError), listener:
            peer, _ = listener.accept()
            with peer:
                hand(self._sock, peer)


def hand(sock: socket.socket, peer: socket.socket) -> None:
    """Gives a socket to the process at the other end, unless that is another user's."""
    if _user_of(peer) == os.getuid():
        socket.send_fds(peer, [_GREETING], [sock.fileno()])


def fetch(name: str) -> socket.socket:
    """The listening socket that is offered under this name. Raises OSError if there is none."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        peer.settimeout(_TAKE_S)
        peer.connect(f"\0{name}")
        return receive(peer)


def receive(peer: socket.socket) -> socket.socket:
    """What the process at the other end hands over. Raises OSError for anything but a door."""
    if _user_of(peer) != os.getuid():
        raise PermissionError("the port is offered by another user")
    greeting, found, _, _ = socket.recv_fds(peer, len(_GREETING), 1)
    if greeting != _GREETING or len(found) != 1:
        raise ConnectionError("no port was handed over")
    sock = socket.socket(fileno=found[0])
    sock.setblocking(False)
    return sock


def _user_of(peer: socket.socket) -> int:
    raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(raw)[1])
