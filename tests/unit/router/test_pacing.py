"""Tokens wait for company only as long as the last message took to leave."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from router import pacing
from router.pacing import WAIT_MAX_S, gathered


class Clock:
    """Time that passes when it is told to, and what was slept of it."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 6))
        self.now_s += seconds


class Played:
    """A stream whose outputs come so long after they are asked for."""

    def __init__(self, clock: Clock, gaps_s: Sequence[float]) -> None:
        self._clock = clock
        self._gaps_s = list(gaps_s)

    async def ready(self) -> bool:
        if not self._gaps_s:
            return False
        self._clock.now_s += self._gaps_s.pop(0)
        return True

    async def __anext__(self) -> str:
        return "output"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pacing, "time", clock)
    monkeypatch.setattr(pacing, "asyncio", clock)
    return clock


@pytest.mark.parametrize(
    ("gaps_s", "takes_s", "slept"),
    [
        ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0], []),
        ([0.0, 0.0, 0.0], [0.004, 0.001, 0.0], [0.004, 0.001]),
        ([0.0, 0.003, 0.02], [0.004, 0.004, 0.0], [0.001]),
        ([0.0, 0.0], [3.0, 0.0], [WAIT_MAX_S]),
    ],
    ids=["a quick one never waits", "as long again", "less what has passed", "bounded"],
)
async def test_pauses(
    clock: Clock, gaps_s: list[float], takes_s: list[float], slept: list[float]
) -> None:
    async for output in gathered(Played(clock, gaps_s)):
        assert output == "output"
        clock.now_s += takes_s.pop(0)
    assert takes_s == []
    assert clock.slept == slept


class Tokens:
    """A stream that ends with 0: what is put and not taken yet is one output."""

    def __init__(self, *tokens: int) -> None:
        self._there = asyncio.Event()
        self._waiting: list[int] = []
        self._ended = False
        self.put(*tokens)

    def put(self, *tokens: int) -> None:
        self._waiting += tokens
        self._there.set()

    async def ready(self) -> bool:
        if not self._ended:
            await self._there.wait()
        return not self._ended

    async def __anext__(self) -> list[int]:
        taken, self._waiting = self._waiting, []
        self._there.clear()
        self._ended = 0 in taken
        return taken


async def test_what_comes_meanwhile_leaves_together() -> None:
    tokens, found = Tokens(1), []
    async for output in gathered(tokens):
        found.append(output)
        if len(found) == 1:
            tokens.put(2)
            await asyncio.sleep(0.03)
            asyncio.get_running_loop().call_later(0.01, tokens.put, 3, 0)
    assert found == [[1], [2, 3, 0]]
