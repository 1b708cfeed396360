"""Which peers are known to be dead: the second proof that no write is left."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kv_transfer.liveness import ProcessName

QUIET_ROUNDS = 3
"""Rounds in which the own agent is polled between a peer's death and acting on it: what it had
sent before it died has arrived by then."""


class Obituary:
    """Watches the processes of peers; belongs to the mover's thread."""

    def __init__(self, is_dead: Callable[[ProcessName], bool]) -> None:
        self._is_dead = is_dead
        self._peers: dict[str, ProcessName] = {}
        self._rounds: dict[str, int] = {}

    def watch(self, peer: str, process: ProcessName) -> None:
        self._peers[peer] = process

    def news(self, wanted: Iterable[str]) -> list[str]:
        """Peers among `wanted` that are dead, each once, some rounds after they died."""
        for peer in wanted:
            process = self._peers.get(peer)
            if process is not None and peer not in self._rounds and self._is_dead(process):
                self._rounds[peer] = QUIET_ROUNDS
        return self._due()

    def declare(self, peers: Iterable[str]) -> None:
        """Others have the proof that these are dead."""
        for peer in peers:
            if peer in self._peers:
                self._rounds.setdefault(peer, QUIET_ROUNDS)

    def _due(self) -> list[str]:
        due = [peer for peer, rounds in self._rounds.items() if rounds <= 0]
        for peer in due:
            del self._rounds[peer], self._peers[peer]
        self._rounds = {peer: rounds - 1 for peer, rounds in self._rounds.items()}
        return due
