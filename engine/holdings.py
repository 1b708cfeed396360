"""Which KV blocks an engine's prefix cache holds, by key, and what each router has yet to hear.

Pure. Keys are those of `baton.prefix_keys`. The engine tells changes, every router's view collects
its own until a frame takes them: a block that came and went in between is not spoken of.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence, Set
from dataclasses import dataclass
from itertools import islice


class NetChange:
    """What has changed since it was last taken. Bounded by what is held then and now."""

    def __init__(self) -> None:
        self._stored: set[int] = set()
        self._removed: set[int] = set()

    def __bool__(self) -> bool:
        return bool(self._stored or self._removed)

    def add(self, stored: Set[int], removed: Set[int]) -> None:
        """`stored` were not held, `removed` were, and they have nothing in common."""
        unheard = removed & self._stored
        back = stored & self._removed
        self._stored = (self._stored - unheard) | (stored - back)
        self._removed = (self._removed - back) | (removed - unheard)

    def store(self, key: int) -> None:
        """One key that was not held."""
        if key in self._removed:
            self._removed.remove(key)
        else:
            self._stored.add(key)

    def remove(self, key: int) -> None:
        """One key that was held."""
        if key in self._stored:
            self._stored.remove(key)
        else:
            self._removed.add(key)

    def take(self) -> tuple[Collection[int], Collection[int]]:
        """(stored, removed), which are then no news any more."""
        taken = self._stored, self._removed
        self._stored, self._removed = set(), set()
        return taken


@dataclass(frozen=True, slots=True)
class CacheNews:
    """What one frame tells of the cache; the fields are those of the wire's CacheDelta."""

    number: int
    stored: Collection[int] = ()
    removed: Collection[int] = ()
    full: bool = False


class CacheView:
    """What one router knows. Its first news is everything that is held."""

    def __init__(self, held: Set[int]) -> None:
        self._held = held
        self._change = NetChange()
        self._number = 0
        self._whole = True

    @property
    def pending(self) -> bool:
        """Whether the router has not heard all."""
        return self._whole or bool(self._change)

    def changed(self, stored: Set[int], removed: Set[int]) -> None:
        # A whole list is due, and will have it.
        if not self._whole:
            self._change.add(stored, removed)

    def resync(self) -> None:
        """The router lost something: tell it everything next time."""
        self._whole = True
        self._change.take()

    def take(self) -> CacheNews:
        """The news since the last call. Each that says something has the next number."""
        if not self.pending:
            return CacheNews(self._number)
        self._number += 1
        if self._whole:
            self._whole = False
            return CacheNews(self._number, tuple(self._held), full=True)
        return CacheNews(self._number, *self._change.take())


class Holdings:
    """The keys that are held, at most `keys_max`; what does not fit is counted and left out."""

    def __init__(self, keys_max: int) -> None:
        self._keys_max = keys_max
        self._held: set[int] = set()
        self._views: list[CacheView] = []
        self.left_out = 0

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, key: int) -> bool:
        return key in self._held

    def open_view(self) -> CacheView:
        view = CacheView(self._held)
        self._views.append(view)
        return view

    def close_view(self, view: CacheView) -> None:
        self._views.remove(view)

    def apply(self, stored: Collection[int], removed: Collection[int]) -> None:
        """A change as the engine tells it; a key in both stays."""
        gone = self._held.intersection(removed).difference(stored)
        came = set(stored) - self._held
        room = self._keys_max - len(self._held) + len(gone)
        if len(came) > room:
            self.left_out += len(came) - room
            came = set(islice(came, room))
        self._held -= gone
        self._held |= came
        for view in self._views:
            view.changed(came, gone)

    def leading(self, keys: Sequence[int]) -> int:
        """How many of these keys are held before the first that is not."""
        held = self._held
        return next((i for i, key in enumerate(keys) if key not in held), len(keys))
