"""The reference setting R1: routing rules on single-queue prefill workers, in simulated time.

Each worker serves one request at a time in order of arrival, keeps an LRU of prompt blocks, and
takes a fixed time plus a time per uncached token. Costs are exact and nothing is batched: the
setting compares rules, it predicts no product. What a router knows is part of the setting: the
truth at each moment (`report_s` 0), or loads as reported every `report_s` seconds plus what it
sent itself; and the caches as they are, or only what it sent there (`own_view`). A router always
hears at once when one of its own requests has been computed, as it relays the answer.
"""

from __future__ import annotations

import heapq
import random
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

BLOCK_TOKENS = 512


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request: when it comes, how long its prompt is, and the keys of its blocks."""

    number: int
    at_s: float
    tokens: int
    blocks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Setting:
    """Workers and what routers know of them; the defaults are R1 with one well-informed router."""

    workers: int = 8
    cache_tokens: int = 1_000_000
    fixed_s: float = 0.010
    token_s: float = 0.00016
    slo_s: float = 5.0
    unscored: int = 500
    routers: int = 1
    report_s: float = 0.0
    own_view: bool = False
    ask_s: float | None = None
    """What one round of questions takes; None where routers may not ask."""
    seed: int = 0
    """Spreads the requests over the routers."""


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


class Cache:
    """The prompt blocks of one worker, the least recently used leave first."""

    def __init__(self, blocks_max: int) -> None:
        self._blocks_max = blocks_max
        self._blocks: dict[int, None] = {}

    def match(self, blocks: Sequence[int]) -> int:
        """How many leading blocks are here."""
        held = self._blocks
        for count, block in enumerate(blocks):
            if block not in held:
                return count
        return len(blocks)

    def use(self, blocks: Sequence[int]) -> None:
        """The blocks are here now; a prompt's tail leaves before its head."""
        held = self._blocks
        for block in reversed(blocks):
            held.pop(block, None)
            held[block] = None
        while len(held) > self._blocks_max:
            del held[next(iter(held))]


class Worker:
    """A single queue. What it will hold and when it is free follow from the order of arrival."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self.cache = Cache(setting.cache_tokens // BLOCK_TOKENS)
        self.free_at_s = 0.0
        self._held: dict[int, tuple[float, float]] = {}

    def pending_s(self, now: float) -> float:
        return max(self.free_at_s - now, 0.0)

    def accept(self, arrival: Arrival, now: float) -> tuple[float, int]:
        """When the request will have been computed, and how many of its tokens are cached."""
        self._held.pop(arrival.number, None)
        cached = min(self.cache.match(arrival.blocks) * BLOCK_TOKENS, arrival.tokens)
        self.cache.use(arrival.blocks)
        self.free_at_s = max(self.free_at_s, now) + self.service_s(arrival.tokens - cached)
        return self.free_at_s, cached

    def service_s(self, new_tokens: int) -> float:
        return self._setting.fixed_s + self._setting.token_s * new_tokens

    def answer(
        self, arrival: Arrival, number: int, until_s: float, chance: float, now: float
    ) -> Answer:
        """Answers from memory. Places held for earlier questions count by their chance of use."""
        self._held = {n: h for n, h in self._held.items() if h[0] > now}
        pending = self.pending_s(now) + sum(work for _, work in self._held.values())
        cached = min(self.cache.match(arrival.blocks) * BLOCK_TOKENS, arrival.tokens)
        self._held[arrival.number] = (until_s, chance * self.service_s(arrival.tokens - cached))
        return Answer(number, pending, cached)


class View:
    """What one router knows: loads by report plus its own dispatches since, and caches."""

    def __init__(self, setting: Setting, workers: Sequence[Worker]) -> None:
        self.setting = setting
        self._workers = workers
        blocks = setting.cache_tokens // BLOCK_TOKENS
        shadows = [Cache(blocks) for _ in workers] if setting.own_view else None
        self.caches = shadows or [w.cache for w in workers]
        self._shadows = shadows
        self._reported = [0.0] * len(workers)
        self._reported_at_s = 0.0

    def pending_s(self, now: float) -> list[float]:
        """Seconds of work before a new request, per worker."""
        if not self.setting.report_s:
            return [w.pending_s(now) for w in self._workers]
        age_s = now - self._reported_at_s
        return [max(load - age_s, 0.0) for load in self._reported]

    def cached_tokens(self, arrival: Arrival) -> list[int]:
        """How many of its tokens each worker holds."""
        blocks, tokens = arrival.blocks, arrival.tokens
        return [min(c.match(blocks) * BLOCK_TOKENS, tokens) for c in self.caches]

    def service_s(self, new_tokens: int) -> float:
        return self.setting.fixed_s + self.setting.token_s * new_tokens

    def sent(self, arrival: Arrival, worker: int, now: float) -> None:
        """Called before the worker has it, so that its own cache still is as it was."""
        if self.setting.report_s:
            cached = min(self.caches[worker].match(arrival.blocks) * BLOCK_TOKENS, arrival.tokens)
            # Kept relative to the report's time, like the report itself.
            age_s = now - self._reported_at_s
            left_s = max(self._reported[worker] - age_s, 0.0)
            self._reported[worker] = left_s + self.service_s(arrival.tokens - cached) + age_s
        if self._shadows is not None:
            self._shadows[worker].use(arrival.blocks)

    def reported(self, loads: list[float], now: float) -> None:
        self._reported, self._reported_at_s = loads.copy(), now


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


@dataclass(frozen=True, slots=True)
class Score:
    """What the requests got, the unscored left out."""

    attained: float
    ttft_p50_s: float
    ttft_p90_s: float
    ttft_p99_s: float
    cached_share: float
    imbalance: float
    """The spread of work between the workers, as coefficient of variation."""


_Event = tuple[float, int, Callable[..., None], tuple[Any, ...]]


class Run:
    """One simulation: arrivals, routers and workers, driven by a queue of events."""

    def __init__(
        self,
        setting: Setting,
        arrivals: Sequence[Arrival],
        make_router: Callable[[View, int], Router],
    ) -> None:
        self._setting = setting
        self._arrivals = arrivals
        self._workers = [Worker(setting) for _ in range(setting.workers)]
        self._views = [View(setting, self._workers) for _ in range(setting.routers)]
        self._routers = [make_router(view, n) for n, view in enumerate(self._views)]
        self._events: list[_Event] = []
        self._count = 0
        self._open = len(arrivals)
        self.ttft_s = [0.0] * len(arrivals)
        self.cached = [0] * len(arrivals)
        self.work_s = [0.0] * setting.workers

    def go(self) -> Score:
        """Runs until every request has been computed."""
        chance = random.Random(self._setting.seed)
        for arrival in self._arrivals:
            self._at(arrival.at_s, self._arrive, chance.randrange(self._setting.routers), arrival)
        if self._setting.report_s:
            self._at(0.0, self._report)
        events = self._events
        while self._open:
            now, _, act, facts = heapq.heappop(events)
            act(now, *facts)
        return self._score()

    def _at(self, at_s: float, act: Callable[..., None], *facts: Any) -> None:
        self._count += 1
        heapq.heappush(self._events, (at_s, self._count, act, facts))

    def _arrive(self, now: float, router: int, arrival: Arrival) -> None:
        self._obey(router, self._routers[router].arrived(arrival, now), now)

    def _answer(self, now: float, router: int, arrival: Arrival, workers: tuple[int, ...]) -> None:
        held_s = now + (self._setting.ask_s or 0.0)
        chance = 1 / len(workers)
        answers = [self._workers[w].answer(arrival, w, held_s, chance, now) for w in workers]
        self._at(held_s, self._hear, router, arrival, answers)

    def _hear(self, now: float, router: int, arrival: Arrival, answers: list[Answer]) -> None:
        self._obey(router, self._routers[router].answered(arrival, answers, now), now)

    def _compute(self, now: float, router: int, arrival: Arrival, worker: int, cached: int) -> None:
        self._open -= 1
        self._obey(router, self._routers[router].computed(arrival, worker, cached, now), now)

    def _wake(self, now: float, router: int) -> None:
        self._obey(router, self._routers[router].woken(now), now)

    def _report(self, now: float) -> None:
        loads = [w.pending_s(now) for w in self._workers]
        for router, view in enumerate(self._views):
            view.reported(loads, now)
            self._wake(now, router)
        self._at(now + self._setting.report_s, self._report)

    def _obey(self, router: int, words: Iterable[Word], now: float) -> None:
        for word in words:
            if isinstance(word, Send):
                self._send(router, word, now)
            elif isinstance(word, Wake):
                self._at(word.at_s, self._wake, router)
            elif self._setting.ask_s is None:
                raise ValueError("routers may not ask in this setting")
            else:
                self._at(
                    now + self._setting.ask_s / 2, self._answer, router, word.arrival, word.workers
                )

    def _send(self, router: int, word: Send, now: float) -> None:
        arrival, number = word.arrival, word.worker
        worker = self._workers[number]
        if worker.pending_s(now) > word.pending_max_s:
            self._answer(now, router, arrival, (number,))
            return
        self._views[router].sent(arrival, number, now)
        done_s, cached = worker.accept(arrival, now)
        self.ttft_s[arrival.number] = done_s - arrival.at_s
        self.cached[arrival.number] = cached
        self.work_s[number] += worker.service_s(arrival.tokens - cached)
        self._at(done_s, self._compute, router, arrival, number, cached)

    def _score(self) -> Score:
        scored = self._arrivals[self._setting.unscored :]
        times = sorted(self.ttft_s[a.number] for a in scored)
        tokens = sum(a.tokens for a in scored)
        return Score(
            attained=sum(t <= self._setting.slo_s for t in times) / len(times),
            ttft_p50_s=times[len(times) // 2],
            ttft_p90_s=times[int(len(times) * 0.9)],
            ttft_p99_s=times[int(len(times) * 0.99)],
            cached_share=sum(self.cached[a.number] for a in scored) / tokens,
            imbalance=statistics.pstdev(self.work_s) / statistics.mean(self.work_s),
        )
