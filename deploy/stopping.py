"""The signals that end `baton serve`, before, while and after its event loop runs."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def heeded() -> list[signal.Signals]:
    """Those that end it. Whoever starts it under `nohup` wants it to survive the terminal."""
    return [n for n in _SIGNALS if n != signal.SIGHUP or signal.getsignal(n) != signal.SIG_IGN]


class Stop:
    """The first signal stops gently, the second at once."""

    def __init__(
        self, gently: Callable[[], None], at_once: Callable[[], object], say: Callable[[str], None]
    ) -> None:
        self._gently = gently
        self._at_once = at_once
        self._say = say
        self._asked = False

    def arrived(self) -> None:
        """One more signal."""
        if self._asked:
            self._at_once()
            return
        self._asked = True
        self._gently()
        self._say("stopping: running requests may finish; once more to stop at once")


def on_signals(arrived: Callable[[], None]) -> None:
    """From now on the running event loop hears of them."""
    loop = asyncio.get_running_loop()
    for number in heeded():
        loop.add_signal_handler(number, arrived)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Until the event loop takes over, each of the signals is a KeyboardInterrupt."""

    def interrupt(number: int, _frame: object) -> None:
        raise KeyboardInterrupt(signal.Signals(number).name)

    for number in heeded():
        signal.signal(number, interrupt)
    yield


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """The last clean-up is short and bounded; nobody may cut it off half way."""
    old = [(number, signal.signal(number, signal.SIG_IGN)) for number in heeded()]
    try:
        yield
    finally:
        for number, handler in old:
            signal.signal(number, handler)
