"""The prompts that an engine has yet to compute, in seconds.

Pure: time comes as readings of one clock. The cost of a prompt is linear in what the fit knows of
it, so that sums of features are kept, and the whole queue is priced anew with each frame at the
price of one prompt.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import NamedTuple

from baton.costs import PrefillCurve

RESERVATIONS_MAX = 1024
HOLD_MAX_S = 1.0
"""A router that asked and did not decide by then has lost its place."""


class Prompt(NamedTuple):
    """Tokens to compute, and tokens before them."""

    new: int
    cached: int = 0

    def seconds(self, curve: PrefillCurve) -> float:
        return curve.seconds(self.new, self.cached)


@dataclass(slots=True)
class _Sum:
    """Of prompts. Integers, so that what is taken away leaves nothing behind."""

    prompts: int = 0
    new: int = 0
    double_pairs: int = 0

    def add(self, prompt: Prompt, sign: int = 1) -> None:
        self.prompts += sign
        self.new += sign * prompt.new
        self.double_pairs += sign * prompt.new * (2 * prompt.cached + prompt.new)

    def seconds(self, curve: PrefillCurve) -> float:
        return (
            self.prompts * curve.fixed_s
            + self.new * curve.token_s
            + self.double_pairs / 2 * curve.pair_s
        )


class _Reservation(NamedTuple):
    prompt: Prompt
    until: float


_Place = tuple[Hashable, str]
"""Whose, and for which leg."""


class Backlog:
    """Legs whose prompt is not computed, in order, and places held for legs that may come."""

    def __init__(self) -> None:
        self._legs: OrderedDict[str, Prompt] = OrderedDict()
        self._held: dict[_Place, _Reservation] = {}
        self._sum = _Sum()
        self._head_since = 0.0
        self._next_end = 0.0
        """No reservation ends before."""
        self.dropped = 0
        """Places that were asked for beyond the bound."""

    @property
    def reservations(self) -> int:
        return len(self._held)

    def join(self, leg_id: str, prompt: Prompt, now: float) -> None:
        if not self._legs:
            self._head_since = now
        self._legs[leg_id] = prompt
        self._sum.add(prompt)

    def leave(self, leg_id: str, now: float) -> None:
        """Its prompt is computed, or need not be. Unknown legs are ignored."""
        if leg_id not in self._legs:
            return
        if leg_id == next(iter(self._legs)):
            self._head_since = now
        self._sum.add(self._legs.pop(leg_id), -1)

    def hold(self, owner: Hashable, leg_id: str, prompt: Prompt, hold_s: float, now: float) -> None:
        """Keep a place, at most HOLD_MAX_S; it takes the place of the one this leg has."""
        self.release(owner, leg_id)
        self._expire(now)
        if len(self._held) >= RESERVATIONS_MAX:
            self.dropped += 1
            return
        until = now + min(hold_s, HOLD_MAX_S)
        self._next_end = min(self._next_end, until) if self._held else until
        self._held[owner, leg_id] = _Reservation(prompt, until)
        self._sum.add(prompt)

    def release(self, owner: Hashable, leg_id: str) -> None:
        """Unknown ones are ignored."""
        if reservation := self._held.pop((owner, leg_id), None):
            self._sum.add(reservation.prompt, -1)

    def forget(self, owner: Hashable) -> None:
        """All its places are free."""
        for place in [place for place in self._held if place[0] == owner]:
            self.release(*place)

    def seconds(self, curve: PrefillCurve, now: float) -> float:
        """Work before a new prompt, never negative.

        What the first leg has had of its time is taken off, but no more than it was to take: the
        work of a leg that takes longer is not over.
        """
        self._expire(now)
        total = self._sum.seconds(curve)
        if self._legs:
            head = next(iter(self._legs.values()))
            total -= min(now - self._head_since, head.seconds(curve))
        return max(total, 0.0)

    def _expire(self, now: float) -> None:
        if not self._held or now < self._next_end:
            return
        for place in [place for place, held in self._held.items() if held.until <= now]:
            self.release(*place)
        self._next_end = min((held.until for held in self._held.values()), default=0.0)
