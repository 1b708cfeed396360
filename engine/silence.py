"""How long an engine that has work has said nothing.

Pure: time comes as readings of one clock. The watch runs while the engine has work and stands
still while it has none, so that work which is withdrawn in time does not hide a stuck engine.
"""

from __future__ import annotations


class Silence:
    """A watch that only a word from the engine sets back."""

    def __init__(self) -> None:
        self._before_s = 0.0
        self._since: float | None = None

    def starts(self, now: float) -> None:
        """The engine has work; it may have had some already."""
        if self._since is None:
            self._since = now

    def pauses(self, now: float) -> None:
        """The engine has no work left."""
        self._before_s = self.seconds(now)
        self._since = None

    def ends(self, now: float) -> None:
        """The engine said something."""
        self._before_s = 0.0
        if self._since is not None:
            self._since = now

    def seconds(self, now: float) -> float:
        return self._before_s + (now - self._since if self._since is not None else 0.0)
