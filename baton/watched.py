"""What is made of files, and made anew when they change: keys and certificates.

Nobody watches in the background: whoever asks causes a look, once a second at most.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar

T = TypeVar("T")
_LOOK_EVERY_S = 1.0
_log = logging.getLogger("baton.files")
_Stamp: TypeAlias = tuple[tuple[int, ...], ...] | None


class Watched(Generic[T]):
    """The latest that could be made; what cannot be read leaves the earlier in force.

    `make` raises OSError or ValueError for files it cannot use, and so does `Watched` itself, for
    the first of them.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        make: Callable[[], T],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._paths = tuple(paths)
        self._make = make
        self._now = now
        self._stamp = self._stamped()
        self._made = make()
        self._looked_at = now()
        self._fault = ""
        """Why the files could not be used at the last look; empty = they could."""

    def latest(self) -> T:
        """What the files say, or said while they could be read."""
        now = self._now()
        if now - self._looked_at >= _LOOK_EVERY_S:
            self._looked_at = now
            self._look()
        return self._made

    def _look(self) -> None:
        stamp = self._stamped()
        # What could not be used may become readable without a change that a stamp shows.
        if stamp == self._stamp and not self._fault:
            return
        self._stamp = stamp
        files, before = ", ".join(map(str, self._paths)), self._fault
        try:
            self._made = self._make()
        except (OSError, ValueError) as error:
            self._fault = str(error) or type(error).__name__
            if self._fault != before:
                about = {"files": files, "why": self._fault}
                _log.error("cannot be used, the earlier stays", extra=about)
        else:
            self._fault = ""
            _log.info("read anew", extra={"files": files})

    def _stamped(self) -> _Stamp:
        try:
            found = [path.stat() for path in self._paths]
        except OSError:
            return None
        return tuple((one.st_mtime_ns, one.st_ctime_ns, one.st_size, one.st_ino) for one in found)
