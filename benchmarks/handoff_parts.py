"""The parts of the full handoff benchmark: each has a pair of engines and a time of its own.

What fails or does not end in time is cut short with a reason, and what it measured until then
counts; the other parts go on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc

from benchmarks.engines import ClusterOfTwo
from benchmarks.handing import HandingPair, Runs
from benchmarks.handoff_budget import Budget
from benchmarks.handoff_engines import Wanted, engines, kv_bytes_per_token
from benchmarks.legs import LegEndedError

_FAILURES = (AssertionError, EOFError, OSError, LegEndedError, grpc.RpcError)
"""An engine that does not start, answer or stop, one that is gone, and time that is over."""
_GRACE_S = 20.0
"""For the request that was sent just before the time was over."""
_START_S = 30.0


@dataclass
class Found:
    """What a part measured."""

    kv_bytes_per_token: int = 0
    seen: Runs = field(default_factory=dict)
    load: dict[str, Any] = field(default_factory=dict)
    shaped: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    cut_short: str | None = None

    def how_it_went(self) -> dict[str, Any]:
        """For the report."""
        return {"seconds": round(self.seconds), "cut_short": self.cut_short}


@dataclass(frozen=True)
class Part:
    """What to measure on which engines, in how many seconds. Starting them counts."""

    name: str
    wanted: Wanted
    seconds: float
    measure: Callable[[HandingPair, Budget, Found], Awaitable[None]]
    patience_s: float = 60.0


def run(part: Part, total: Budget) -> Found:
    """Measure one part, within what is left of the whole time."""
    found, started = Found(), time.monotonic()
    try:
        _start_and_measure(part, total.part(part.seconds), found)
    except _FAILURES as error:
        found.cut_short = found.cut_short or _said(error)
    found.seconds = time.monotonic() - started
    print(f"{part.name}: {found.seconds:.0f} s, {found.cut_short or 'done'}", flush=True)
    return found


def _start_and_measure(part: Part, budget: Budget, found: Found) -> None:
    if not budget.allows(_START_S):
        raise TimeoutError("the other parts took the time")
    print(f"{part.name}: {budget.left_s:.0f} s at most", flush=True)
    with engines(part.wanted) as cluster:
        info = cluster.prefill.info
        found.kv_bytes_per_token = kv_bytes_per_token(part.wanted, info.dtype)
        asyncio.run(_measure(part, cluster, budget, found))


async def _measure(part: Part, cluster: ClusterOfTwo, budget: Budget, found: Found) -> None:
    pair = HandingPair(cluster, part.patience_s)
    try:
        async with asyncio.timeout(budget.left_s + _GRACE_S), pair:
            await part.measure(pair, budget, found)
    except _FAILURES as error:
        found.cut_short = f"{_said(error)}, at {pair.doing}"


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
