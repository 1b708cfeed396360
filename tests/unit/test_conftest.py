"""The guard of the unit tier guards, and leaves asyncio alone."""

import asyncio
import socket
import time

import pytest


def test_sockets_are_refused() -> None:
    with socket.socket() as sock:
        for reach in (sock.bind, sock.connect, sock.connect_ex):
            with pytest.raises(AssertionError, match="unit test"):
                reach(("127.0.0.1", 0))


def test_sleeping_is_refused() -> None:
    with pytest.raises(AssertionError, match=r"time\.sleep"):
        time.sleep(0)


def test_an_event_loop_still_runs() -> None:
    assert asyncio.run(asyncio.sleep(0, "done")) == "done"
