"""What SIGTERM does to the process of a worker or a router: once = leave gently, again = at once.

Ray takes the signal for itself and ends the process in the middle of everything; its handler runs
in the main thread, which does nothing else but wait and look for signals. Ours replaces it there.
"""

from __future__ import annotations

import inspect
import os
import signal
from collections.abc import Callable
from typing import Any

_ENDED_BY_SIGNAL = 128


class Leaving:
    """Turns signals into calls. `leave` is called in the main thread and must not wait; it returns
    False when there is nothing to finish, and the process may end at once."""

    def __init__(self, leave: Callable[[], bool], end: Callable[[int], object] = os._exit) -> None:
        self._leave = leave
        self._end = end
        self._pid = os.getpid()
        self._asked = False

    def listen(self) -> None:
        """From now on; call it in the main thread."""
        signal.signal(signal.SIGTERM, self.arrived)

    def arrived(self, number: int, _frame: object) -> None:
        """A signal came. A forked child inherits this, but has nothing of its own to finish."""
        if self._asked or os.getpid() != self._pid:
            self._end(_ENDED_BY_SIGNAL + number)
            return
        self._asked = True
        if not self._leave():
            self._end(_ENDED_BY_SIGNAL + number)


def listening(cls: type) -> type:
    """A class of the same name and public methods, whose objects `leave` at SIGTERM.

    It has no coroutines: Ray builds an actor that has some in a thread of its own, where no signal
    can be taken, and lets its methods wait for each other.
    """

    def build(self: Any, *args: object) -> None:
        self.process = cls(*args)
        Leaving(self.process.leave).listen()

    public = (name for name, _ in inspect.getmembers(cls, inspect.isfunction) if name[0] != "_")
    methods = {name: _forward(name) for name in public}
    return type(cls.__name__, (), {**methods, "__init__": build, "__module__": cls.__module__})


def _forward(name: str) -> Callable[..., Any]:
    def forward(self: Any, *args: object) -> Any:
        return getattr(self.process, name)(*args)

    forward.__name__ = name
    return forward
