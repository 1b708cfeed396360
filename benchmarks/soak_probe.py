"""A window into an engine's block pool: who holds which blocks now, and what lies in them.

Reports of a worker show what its last step saw. Here the pool itself is asked, in the engine's
process, by a thread that only reads.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any, Protocol

ANSWER_S = 20.0


@dataclass(frozen=True, slots=True)
class Look:
    """An engine at one moment."""

    used: int
    """Blocks that somebody holds a reference on."""
    held: Mapping[str, tuple[int, ...]]
    """Request → its blocks."""
    failed_loads: frozenset[str] = frozenset()
    """Requests, ever, whose KV did not arrive."""
    counts: Mapping[str, int] = field(default_factory=Counter)
    """Faults done to messages so far."""


class Looked(Protocol):
    """What an engine shows."""

    def look(self) -> Look: ...

    def references(self) -> list[int]:
        """How many hold each block."""

    def sums(self) -> list[int]:
        """A checksum of each block."""


def _place(folder: Path, pid: int) -> str:
    return str(folder / f"{pid}.sock")


def serve(looked: Looked, folder: Path, pid: int) -> None:
    """Answer from a thread of this process until it ends."""
    listener = Listener(_place(folder, pid), "AF_UNIX")
    threading.Thread(target=_listen, args=(looked, listener), name="soak", daemon=True).start()


def _listen(looked: Looked, listener: Listener) -> None:
    while True:
        with listener.accept() as connection, suppress(EOFError, OSError):
            while True:
                connection.send(getattr(looked, connection.recv())())


class Probe:
    """The other end, for one engine."""

    def __init__(self, folder: Path, pid: int) -> None:
        self._connection: Connection = Client(_place(folder, pid), "AF_UNIX")

    def look(self) -> Look:
        """Raises OSError when the engine is gone or does not answer."""
        found: Look = self._ask("look")
        return found

    def references(self) -> list[int]:
        """How many hold each block."""
        found: list[int] = self._ask("references")
        return found

    def sums(self) -> list[int]:
        """A checksum of each block."""
        found: list[int] = self._ask("sums")
        return found

    def _ask(self, what: str) -> Any:
        try:
            self._connection.send(what)
            if not self._connection.poll(ANSWER_S):
                raise TimeoutError(f"no answer to {what!r} in {ANSWER_S} s")
            return self._connection.recv()
        except EOFError as error:
            raise ConnectionError("the engine is gone") from error

    def close(self) -> None:
        """Leave."""
        self._connection.close()
