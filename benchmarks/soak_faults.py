"""Which messages of a ticket get lost, repeated or late, and when prefill stops: pure.

A ticket's name carries its faults, so both engines know them without another word, and the same
seed spoils the same messages.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

_NAME = re.compile(r"soak\.(\d+)\.(\d+)\.(\d+)\.(\d+)\.(\d+)\.(\d+)\.")
_NAME_BYTES = re.compile(_NAME.pattern.encode())

LOSSES_MAX = 3
"""Messages about one ticket that one end loses at most: reminders come ever more rarely, and each
request has to end within a bound."""

Mail: TypeAlias = tuple[str, bytes]
"""(peer, message), as an agent delivers it."""


class Fate(StrEnum):
    """What becomes of one message."""

    ARRIVED = "arrived"
    DROPPED = "dropped"
    REPEATED = "repeated"
    DELAYED = "delayed"


@dataclass(frozen=True, slots=True)
class Spoil:
    """The faults of one ticket. Shares are percent of its messages."""

    drop: int = 0
    repeat: int = 0
    delay: int = 0
    stop_at: int = 0
    """Prefill's process stops right after it has posted this write; 0 = never."""

    @property
    def harmless(self) -> bool:
        """Whether no message is lost or late."""
        return not (self.drop or self.delay or self.stop_at)


UNSPOILT = Spoil()


def ticket_name(seed: int, number: int, spoil: Spoil) -> str:
    """The name of a ticket with these faults."""
    shares = f"{spoil.drop}.{spoil.repeat}.{spoil.delay}.{spoil.stop_at}"
    return f"soak.{seed}.{number}.{shares}."


def spoil_of(name: str) -> Spoil:
    """The faults that a ticket's name carries; none for other names."""
    found = _NAME.match(name)
    return Spoil(*(int(part) for part in found.groups()[2:])) if found else UNSPOILT


def name_in(message: bytes) -> str | None:
    """The name of the ticket that a message is about, whatever the message is."""
    found = _NAME_BYTES.search(message)
    return found.group().decode() if found else None


def fate(spoil: Spoil, chance: random.Random) -> Fate:
    """Draw what becomes of one message."""
    drawn = chance.uniform(0, 100)
    for share, what in (
        (spoil.drop, Fate.DROPPED),
        (spoil.repeat, Fate.REPEATED),
        (spoil.delay, Fate.DELAYED),
    ):
        if drawn < share:
            return what
        drawn -= share
    return Fate.ARRIVED


@dataclass(slots=True)
class Postman:
    """Stands between an agent and its mover, and does to each message what its ticket says.

    A repeated message comes at once and once more later; a delayed one comes later, so that others
    overtake it.
    """

    delay_max_s: float
    fates: Counter[Fate] = field(default_factory=Counter)
    _late: list[tuple[float, Mail]] = field(default_factory=list)
    _seen: Counter[str] = field(default_factory=Counter)
    _lost: Counter[str] = field(default_factory=Counter)

    def deliver(self, arrived: Iterable[Mail], now_s: float) -> list[Mail]:
        """What the mover gets to hear now."""
        due = [mail for at_s, mail in self._late if at_s <= now_s]
        self._late = [late for late in self._late if late[0] > now_s]
        return due + [mail for mail in arrived if self._passes(mail, now_s)]

    def _passes(self, mail: Mail, now_s: float) -> bool:
        name = name_in(mail[1])
        if name is None:
            return True
        # By kind of message, or both ends would lose the same ones.
        kind = f"{name}{mail[1][:2].hex()}"
        self._seen[kind] += 1
        chance = random.Random(f"{kind}.{self._seen[kind]}")
        drawn = fate(spoil_of(name), chance)
        if drawn is Fate.DROPPED and self._lost[name] >= LOSSES_MAX:
            drawn = Fate.ARRIVED
        self._lost[name] += drawn is Fate.DROPPED
        self.fates[drawn] += 1
        if drawn in (Fate.REPEATED, Fate.DELAYED):
            self._late.append((now_s + chance.uniform(0, self.delay_max_s), mail))
        return drawn in (Fate.ARRIVED, Fate.REPEATED)
