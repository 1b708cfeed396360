"""One leg on a worker."""

from __future__ import annotations

from dataclasses import dataclass

from engine.link import Link
from engine.role import Role


@dataclass(slots=True)
class Leg:
    """Whose it is and how far it is. `taken_at` in seconds of the worker's clock."""

    link: Link
    role: Role
    prompt_tokens: int
    taken_at: float
    had_output: bool = False
