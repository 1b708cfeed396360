"""What goes over a Unix socket when a port is handed over, and what is refused."""

import os
import socket
from collections.abc import Iterator

import pytest

from deploy import handover


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        yield ours, theirs


def test_the_same_socket_arrives(pair: tuple[socket.socket, socket.socket]) -> None:
    with socket.socket() as door:
        handover.hand(door, pair[0])
        with handover.receive(pair[1]) as found:
            assert os.fstat(found.fileno()).st_ino == os.fstat(door.fileno()).st_ino
            assert found.fileno() != door.fileno()
            assert not found.getblocking()


def test_nonsense_is_no_door(pair: tuple[socket.socket, socket.socket]) -> None:
    pair[0].sendall(b"door")
    with pytest.raises(ConnectionError, match="no port"):
        handover.receive(pair[1])
    pair[0].close()
    with pytest.raises(ConnectionError, match="no port"):
        handover.receive(pair[1])


def test_another_user_gives_and_gets_nothing(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handover, "_user_of", lambda _peer: os.getuid() + 1)
    with socket.socket() as door:
        handover.hand(door, pair[0])
    with pytest.raises(PermissionError):
        handover.receive(pair[1])
    pair[1].setblocking(False)
    with pytest.raises(BlockingIOError):
        pair[1].recv(1)
