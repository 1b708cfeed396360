"""What each end of a mover keeps: its open tickets, and a bounded memory of others."""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Protocol, TypeVar

from kv_transfer.ticket.messages import TicketKey
from kv_transfer.ticket.states import SourceState, TargetState

_K = TypeVar("_K")
_V = TypeVar("_V")


class Ticketed(Protocol):
    """One open ticket, as one end of it keeps it."""

    @property
    def peer(self) -> str: ...

    @property
    def state(self) -> SourceState | TargetState: ...


_One = TypeVar("_One", bound=Ticketed)


class Open(dict[TicketKey, _One]):
    """The open tickets of one end."""

    def each(self, peer: str | None = None) -> list[_One]:
        """All, or those with this peer. A list, since a step may close its ticket."""
        return [one for one in self.values() if peer in (None, one.peer)]

    @property
    def peers(self) -> set[str]:
        """Who is at the other ends."""
        return {one.peer for one in self.values()}

    @property
    def phases(self) -> Counter[str]:
        """How many are in which state."""
        return Counter(one.state.phase.value for one in self.values())


class Recent(OrderedDict[_K, _V]):
    """Forgets the oldest of more than `most` entries."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def __setitem__(self, key: _K, value: _V) -> None:
        super().__setitem__(key, value)
        if len(self) > self._most:
            self.popitem(last=False)
