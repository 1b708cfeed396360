"""The transport self-tests of one engine with all the peers it writes to. One runs at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from baton.clock import Clock
from kv_transfer.self_test import (
    ECHO,
    PROBE,
    Floor,
    PairResult,
    PairTest,
    ScratchPort,
    TestLimits,
    Verdict,
    Way,
    sentence,
)

_log = logging.getLogger("baton.kv_transfer")

_RETEST_S = 10.0
_HOST_S = 0.3


@dataclass(frozen=True, slots=True)
class Rules:
    """What tests are measured against."""

    block_bytes: int
    floor: Floor = field(default_factory=Floor)
    limits: TestLimits = field(default_factory=TestLimits)


@dataclass(frozen=True, slots=True)
class _Found:
    result: PairResult
    at: float
    why: str


@dataclass(slots=True)
class PairTests:
    """Belongs to the mover's thread. `way` says what is known of the way to a peer, by its agent.

    A pair that is refused is measured again when it is wanted again: a busy machine, or a peer
    that was stopped for a while, must not cost it for ever.
    """

    port: ScratchPort
    clock: Clock
    rules: Rules | None
    """None = no tests."""
    way: Callable[[str], Way]
    _queue: list[PairTest] = field(default_factory=list)
    _found: dict[str, _Found] = field(default_factory=dict)
    _hosting_until: float = 0.0
    """A peer that probed is measuring: it sees this engine's naps."""

    def want(self, peer: str) -> None:
        """KV is to go to this peer. Call it for each ticket; it costs nothing."""
        rules = self.rules
        if rules is None or self.pending(peer):
            return
        found = self._found.get(peer)
        if found is None or self._old(found):
            test = PairTest(
                self.port, peer, rules.block_bytes, self.clock, rules.floor, rules.limits
            )
            self._queue.append(test)

    def hear(self, peer: str, message: bytes) -> bool:
        """Whether the message belonged to a test, this engine's or the peer's."""
        if message == PROBE:
            self.port.tell(peer, ECHO)
            self._hosting_until = self.clock.now() + _HOST_S
        elif message == ECHO:
            for test in self._of(peer):
                test.heard()
        return message in (PROBE, ECHO)

    def turn(self) -> None:
        """One step of the test under way."""
        if not self._queue:
            return
        test = self._queue[0]
        if (result := test.turn()) is not None:
            self._queue.remove(test)
            self._note(test.peer, result)

    @property
    def busy(self) -> bool:
        """Whether the agent should be polled without naps: they would count as transfer time."""
        return bool(self._queue) or self.clock.now() < self._hosting_until

    def pending(self, peer: str) -> bool:
        """Whether a test of this peer waits or is under way."""
        return any(True for _ in self._of(peer))

    def refusal(self, peer: str) -> str | None:
        """Why nothing may be handed over to this peer; None also before its first result."""
        found = self._found.get(peer)
        return None if found is None or found.result.verdict.usable else found.why

    def forget(self, peer: str) -> None:
        """The peer is gone for good."""
        for test in list(self._of(peer)):
            test.abandon()
            self._queue.remove(test)
        self._found.pop(peer, None)

    def close(self) -> None:
        """Before the agent is closed."""
        for test in self._queue:
            test.abandon()
        self._queue.clear()

    @property
    def gb_per_s(self) -> dict[str, float]:
        """Rates by peer, of those that were measured."""
        found = self._found.items()
        return {peer: each.result.gb_per_s for peer, each in found if each.result.writes}

    def _of(self, peer: str) -> Iterable[PairTest]:
        return (test for test in self._queue if test.peer == peer)

    def _old(self, found: _Found) -> bool:
        usable = found.result.verdict.usable
        return not usable and self.clock.now() - found.at >= _RETEST_S

    def _note(self, peer: str, result: PairResult) -> None:
        floor = Floor() if self.rules is None else self.rules.floor
        why = sentence(result, floor, self.way(peer))
        self._found[peer] = _Found(result, self.clock.now(), why)
        level = logging.INFO if result.verdict is Verdict.OK else logging.WARNING
        _log.log(level, "transport self-test: %s", why)
