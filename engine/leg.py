"""One leg on a worker."""

from __future__ import annotations

from dataclasses import dataclass

from engine.direct import DirectStream
from engine.link import Link
from engine.ports import Output
from engine.role import Role


@dataclass(slots=True)
class Leg:
    """Whose it is and how far it is. `taken_at` in seconds of the worker's clock."""

    link: Link
    role: Role
    prompt_tokens: int
    taken_at: float
    direct: DirectStream | None = None
    """Where its answer goes instead of the router."""
    had_output: bool = False

    def tells(self, output: Output, now: float, *, ended: bool) -> tuple[Output | None, bool]:
        """What its router hears of an output, and whether a stop text in it ends the leg."""
        if self.direct is None:
            return output, False
        return self.direct.add(output, now, ended=ended)
