"""What a prefill router and a simulated world say to each other, and what routers know.

The reference setting and the full cluster model speak it alike, so that a rule is written once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from baton.costs import PrefillCurve
from router.policy.index import Levels
from simulator.traces.request import Trace


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request: when it comes, how long its prompt is, and the keys of its blocks."""

    number: int
    at_s: float
    tokens: int
    blocks: tuple[int, ...]


def arrivals(trace: Trace) -> list[Arrival]:
    """The requests of a trace whose keys have been `chained`; answers do not matter here."""
    return [Arrival(r.number, r.arrival_s, r.input_tokens, r.blocks) for r in trace.requests]


@dataclass(frozen=True, slots=True)
class Setting:
    """Workers and what routers know of them; the defaults are R1 with one well-informed router."""

    workers: int = 8
    cache_tokens: int = 1_000_000
    fixed_s: float = 0.010
    token_s: float = 0.00016
    pair_s: float = 0.0
    """Per new token and token of context before it."""
    slo_s: float = 5.0
    unscored: int = 500
    routers: int = 1
    report_s: float = 0.0
    own_view: bool = False
    ask_s: float | None = None
    """What one round of questions takes; None where routers may not ask."""
    seed: int = 0
    """Spreads the requests over the routers."""
    away: tuple[tuple[int, float, float], ...] = ()
    """(worker, from, until): takes no requests in between, and returns with an empty cache."""

    @property
    def curve(self) -> PrefillCurve:
        """What a prompt costs, as routers and workers know it alike."""
        return PrefillCurve(self.fixed_s, self.token_s, self.pair_s)

    def members(self, now: float) -> tuple[int, ...]:
        """The workers that take requests."""
        gone = {worker for worker, from_s, until_s in self.away if from_s <= now < until_s}
        return tuple(worker for worker in range(self.workers) if worker not in gone)


@dataclass(frozen=True, slots=True)
class Send:
    """A router's word: this request goes to this worker now, which refuses a longer queue."""

    arrival: Arrival
    worker: int
    pending_max_s: float = float("inf")


@dataclass(frozen=True, slots=True)
class Ask:
    """A router's word: these workers are to answer for this request."""

    arrival: Arrival
    workers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a worker says: work before a new request, places held for others included."""

    worker: int
    pending_s: float
    cached_tokens: int


@dataclass(frozen=True, slots=True)
class Wake:
    """A router's word: it wants to be called at this time."""

    at_s: float


Word = Send | Ask | Wake


class Knowledge(Protocol):
    """What one router knows of its workers, by position."""

    setting: Setting
    curve: PrefillCurve

    def members(self, now: float) -> tuple[int, ...]:
        """The workers that take requests, in order."""
        ...

    def pending_s(self, now: float) -> list[float]:
        """Seconds of work before a new request."""
        ...

    def cached_tokens(self, arrival: Arrival) -> list[int]:
        """How many of its tokens each worker holds."""
        ...

    def cached_at(self, arrival: Arrival, worker: int) -> int:
        """The same for one worker."""
        ...

    def levels(self, blocks: Sequence[int]) -> Levels | None:
        """The same as the policy's index has it; None where a router has to remember by itself."""
        ...


class Router(Protocol):
    """What is compared. Every word it gives is carried out at once."""

    def arrived(self, arrival: Arrival, now: float) -> Iterable[Word]: ...

    def answered(
        self, arrival: Arrival, answers: Sequence[Answer], now: float
    ) -> Iterable[Word]: ...

    def computed(
        self, arrival: Arrival, worker: int, cached: int, now: float
    ) -> Iterable[Word]: ...

    def woken(self, now: float) -> Iterable[Word]:
        """The time it asked for has come, or a report."""
        ...
