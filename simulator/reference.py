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
from typing import Any

from router.policy.index import Levels
from simulator.caches import Caches
from simulator.traces.request import BLOCK_TOKENS
from simulator.words import Answer, Arrival, Router, Send, Setting, Wake, Word


class Worker:
    """A single queue. What it will hold and when it is free follow from the order of arrival."""

    def __init__(self, setting: Setting, number: int, caches: Caches) -> None:
        self.curve = setting.curve
        self._number = number
        self._caches = caches
        self.free_at_s = 0.0
        self._held: dict[int, tuple[float, float]] = {}

    def pending_s(self, now: float) -> float:
        return max(self.free_at_s - now, 0.0)

    def accept(self, arrival: Arrival, now: float) -> tuple[float, int]:
        """When the request will have been computed, and how many of its tokens are cached."""
        self._held.pop(arrival.number, None)
        cached = self._cached(arrival)
        self._caches.use(self._number, arrival.blocks)
        work_s = self.curve.seconds(arrival.tokens - cached, cached)
        self.free_at_s = max(self.free_at_s, now) + work_s
        return self.free_at_s, cached

    def answer(self, arrival: Arrival, until_s: float, chance: float, now: float) -> Answer:
        """Answers from memory. Places held for earlier questions count by their chance of use."""
        self._held = {n: h for n, h in self._held.items() if h[0] > now}
        pending = self.pending_s(now) + sum(work for _, work in self._held.values())
        cached = self._cached(arrival)
        work_s = self.curve.seconds(arrival.tokens - cached, cached)
        self._held[arrival.number] = (until_s, chance * work_s)
        return Answer(self._number, pending, cached)

    def _cached(self, arrival: Arrival) -> int:
        return min(self._caches.match(self._number, arrival.blocks) * BLOCK_TOKENS, arrival.tokens)


class View:
    """What one router knows: loads by report plus its own dispatches since, and caches."""

    def __init__(self, setting: Setting, workers: Sequence[Worker], caches: Caches) -> None:
        self.setting = setting
        self.curve = setting.curve
        self._workers = workers
        self._caches = caches_of(setting) if setting.own_view else caches
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
        found = [0] * self.setting.workers
        for blocks, mask in self._caches.levels(arrival.blocks):
            tokens = min(blocks * BLOCK_TOKENS, arrival.tokens)
            for worker in range(len(found)):
                if mask >> worker & 1:
                    found[worker] = tokens
        return found

    def cached_at(self, arrival: Arrival, worker: int) -> int:
        """The same for one worker."""
        return min(self._caches.match(worker, arrival.blocks) * BLOCK_TOKENS, arrival.tokens)

    def levels(self, blocks: Sequence[int]) -> Levels | None:
        """None where routers have to remember by themselves what they sent."""
        return None if self.setting.own_view else self._caches.levels(blocks)

    def members(self, now: float) -> tuple[int, ...]:
        """Changes of membership are known at once."""
        return self.setting.members(now)

    def lost(self, worker: int) -> None:
        """What was cached there is gone."""
        self._caches.clear(worker)

    def sent(self, arrival: Arrival, worker: int, now: float) -> None:
        """Called before the worker has it, so that its own cache still is as it was."""
        if self.setting.report_s:
            cached = self.cached_at(arrival, worker)
            # Kept relative to the report's time, like the report itself.
            age_s = now - self._reported_at_s
            left_s = max(self._reported[worker] - age_s, 0.0)
            work_s = self.curve.seconds(arrival.tokens - cached, cached)
            self._reported[worker] = left_s + work_s + age_s
        if self.setting.own_view:
            self._caches.use(worker, arrival.blocks)

    def reported(self, loads: list[float], now: float) -> None:
        self._reported, self._reported_at_s = loads.copy(), now


def caches_of(setting: Setting) -> Caches:
    """Empty caches of all workers."""
    return Caches(setting.workers, setting.cache_tokens // BLOCK_TOKENS)


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
        self._caches = caches_of(setting)
        self._workers = [Worker(setting, n, self._caches) for n in range(setting.workers)]
        self._views = [View(setting, self._workers, self._caches) for _ in range(setting.routers)]
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
        for worker, from_s, until_s in self._setting.away:
            self._at(from_s, self._change)
            self._at(until_s, self._change, worker)
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
        answers = [self._workers[w].answer(arrival, held_s, chance, now) for w in workers]
        self._at(held_s, self._hear, router, arrival, answers)

    def _hear(self, now: float, router: int, arrival: Arrival, answers: list[Answer]) -> None:
        self._obey(router, self._routers[router].answered(arrival, answers, now), now)

    def _compute(self, now: float, router: int, arrival: Arrival, worker: int, cached: int) -> None:
        self._open -= 1
        self._obey(router, self._routers[router].computed(arrival, worker, cached, now), now)

    def _wake(self, now: float, router: int) -> None:
        self._obey(router, self._routers[router].woken(now), now)

    def _change(self, now: float, back: int | None = None) -> None:
        """A worker has left, or is back with nothing cached."""
        if back is not None:
            self._caches.clear(back)
        for router, view in enumerate(self._views):
            if back is not None:
                view.lost(back)
            self._wake(now, router)

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
        self.work_s[number] += worker.curve.seconds(arrival.tokens - cached, cached)
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
