"""What ends `baton serve`, and what does not."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from deploy.stopping import Stop, heeded, interruptible


@pytest.fixture
def nohup() -> Iterator[None]:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("nohup")
def test_who_was_to_survive_the_terminal_does() -> None:
    kept = [(number, signal.getsignal(number)) for number in heeded()]
    assert [number for number, _ in kept] == [signal.SIGINT, signal.SIGTERM]
    with interruptible():
        os.kill(os.getpid(), signal.SIGHUP)
    for number, handler in kept:
        signal.signal(number, handler)


def test_the_terminal_s_end_is_heeded_otherwise() -> None:
    assert signal.SIGHUP in heeded()


def test_it_stops_also_where_nobody_can_be_told() -> None:
    done: list[str] = []

    def unread(_: str) -> None:
        raise OSError("no terminal")

    stop = Stop(lambda: done.append("gently"), lambda: done.append("at once"), unread)
    with pytest.raises(OSError, match="no terminal"):
        stop.arrived()
    stop.arrived()
    assert done == ["gently", "at once"]
