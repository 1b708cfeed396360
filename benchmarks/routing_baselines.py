"""Rival routing rules, restated from their papers or documentation, for the reference setting.

Every rule knows what its router knows: seconds of work before a new request per worker, tokens
cached per worker, and its own requests in flight. All get that knowledge in the same form, own
dispatches since the last report included, and all but one send at once. Where a rule has a
threshold, it is the published default.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from router.policy import rings
from simulator import desk
from simulator.words import Answer, Arrival, Knowledge, Send, Wake, Word

_TICK_S = 1e-6
"""After the moment at which a worker has room, so that rounding leaves no doubt."""


class Rule:
    """One router that follows one rule. Ties go by chance, from a seed."""

    def __init__(self, view: Knowledge, seed: int) -> None:
        self.view = view
        self.workers = view.members(0.0)
        self.chance = random.Random(seed)
        self.seed = seed
        self.counts = [0] * view.setting.workers
        self.tokens = [0] * view.setting.workers
        """Prompt tokens in flight."""

    def arrived(self, arrival: Arrival, now: float) -> Iterable[Word]:
        self.workers = self.view.members(now)
        worker = self.choose(arrival, now)
        self.counts[worker] += 1
        self.tokens[worker] += arrival.tokens
        return (Send(arrival, worker),)

    def computed(self, arrival: Arrival, worker: int, cached: int, now: float) -> Iterable[Word]:
        self.counts[worker] -= 1
        self.tokens[worker] -= arrival.tokens
        return ()

    def answered(self, arrival: Arrival, answers: Sequence[Answer], now: float) -> Iterable[Word]:
        raise AssertionError("this rule asks nobody")

    def woken(self, now: float) -> Iterable[Word]:
        return ()

    def choose(self, arrival: Arrival, now: float) -> int:
        raise NotImplementedError

    def queues_s(self, now: float) -> list[float]:
        """Seconds of work before a new request, per worker."""
        return self.view.pending_s(now)

    def ttft_s(self, arrival: Arrival, now: float, cached: Sequence[int]) -> list[float]:
        """Predicted time to first token on each worker."""
        queues, tokens, seconds = self.queues_s(now), arrival.tokens, self.view.curve.seconds
        return [q + seconds(tokens - c, c) for q, c in zip(queues, cached, strict=True)]

    def least(self, costs: Sequence[float], among: Iterable[int] | None = None) -> int:
        """The worker of the least cost."""
        chance = self.chance.random
        return min(self.workers if among is None else among, key=lambda w: (costs[w], chance()))

    def homes(self, arrival: Arrival, count: int) -> tuple[int, ...]:
        """Candidates of the prompt's first two blocks; of itself where it has none."""
        key = (arrival.blocks[:2] or (arrival.number,))[-1]
        return _rings(self.workers, self.seed).candidates(key, count)


class RoundRobin(Rule):
    """Each in turn."""

    _last = 0

    def choose(self, arrival: Arrival, now: float) -> int:
        self._last += 1
        return self.workers[self._last % len(self.workers)]


class LeastWork(Rule):
    """The least pending work, caches ignored."""

    def choose(self, arrival: Arrival, now: float) -> int:
        return self.least(self.view.pending_s(now))


class PowerOfTwo(Rule):
    """The less loaded of two workers taken by chance."""

    def choose(self, arrival: Arrival, now: float) -> int:
        return self.least(self.view.pending_s(now), self.chance.sample(self.workers, 2))


class SingleHash(Rule):
    """Where the prefix hashes to, whatever the load."""

    def choose(self, arrival: Arrival, now: float) -> int:
        return self.homes(arrival, 1)[0]


class BoundedLoad(Rule):
    """Consistent hashing with bounded load 1.25 (arXiv 1608.01350, as in KubeAI)."""

    def choose(self, arrival: Arrival, now: float) -> int:
        limit = 1.25 * (sum(self.counts) + 1) / len(self.workers)
        order = self.homes(arrival, len(self.workers))
        return next((w for w in order if self.counts[w] + 1 <= limit), order[0])


class PrefixTree(Rule):
    """SGLang's router: shortest queue when unbalanced, else the best match above a half."""

    def choose(self, arrival: Arrival, now: float) -> int:
        counts = [self.counts[w] for w in self.workers]
        most, fewest = max(counts), min(counts)
        if most - fewest > 32 and most > 1.1 * fewest:
            return self.least(self.counts)
        cached = self.view.cached_tokens(arrival)
        if max(cached[w] for w in self.workers) > 0.5 * arrival.tokens:
            return self.least([-float(c) for c in cached])
        # The smallest tree is the one that was sent the least; in flight stands for it here.
        return self.least(self.tokens)


class MinTtft(Rule):
    """Least predicted TTFT of all: Mooncake's Algorithm 1 without transfers, LMetric's P-token."""

    def choose(self, arrival: Arrival, now: float) -> int:
        return self.least(self.ttft_s(arrival, now, self.view.cached_tokens(arrival)))


class TokensTimesBatch(Rule):
    """LMetric's product: queued new tokens with this request's, times the batch with it."""

    def choose(self, arrival: Arrival, now: float) -> int:
        times = self.ttft_s(arrival, now, self.view.cached_tokens(arrival))
        return self.least([t * (n + 1) for t, n in zip(times, self.counts, strict=True)])


class Sticky(Rule):
    """llm-d: at least 80 % cached, until that worker is 5 s further behind than the idlest."""

    gap_s = 5.0

    def choose(self, arrival: Arrival, now: float) -> int:
        queues, cached = self.view.pending_s(now), self.view.cached_tokens(arrival)
        warm = [w for w in self.workers if cached[w] >= 0.8 * arrival.tokens]
        if warm:
            best = self.least(queues, warm)
            if queues[best] - min(queues[w] for w in self.workers) < self.gap_s:
                return best
        return self.least(self.ttft_s(arrival, now, cached))


class Preble(Rule):
    """Preble: the longest match where it is more than the rest, else least predicted TTFT."""

    def choose(self, arrival: Arrival, now: float) -> int:
        cached = self.view.cached_tokens(arrival)
        longest = max(cached[w] for w in self.workers)
        exploit = longest > arrival.tokens - longest
        among = [w for w in self.workers if cached[w] == longest] if exploit else self.workers
        return self.least(self.ttft_s(arrival, now, cached), among)


class DualMap(Rule):
    """DualMap: the longer match of two homes until half the SLO of work waits there (its code)."""

    share = 0.5

    def choose(self, arrival: Arrival, now: float) -> int:
        homes = self.homes(arrival, 2)
        first, second = homes[0], homes[-1]
        queues, cached = self.queues_s(now), self.view.cached_tokens(arrival)
        if cached[first] == cached[second]:
            return self.least(queues, (first, second))
        warm = first if cached[first] > cached[second] else second
        if queues[warm] <= self.share * self.view.setting.slo_s:
            return warm
        return self.least(self.ttft_s(arrival, now, cached), (first, second))


class DualMapPaper(DualMap):
    """The same with the paper's switch: at the whole SLO."""

    share = 1.0


@dataclass(frozen=True, slots=True)
class _Held:
    """One request in the router's queue for a worker, and its other home."""

    arrival: Arrival
    other: int
    work_s: float


class DualMapQueue(DualMap):
    """DualMap with what it does to waiting requests; the router sends as little ahead as Baton's.

    Longest hit first. When both homes of a new request are predicted beyond the SLO, the requests
    that wait for them move to their own other homes where that is sooner and within the SLO, the
    most gain first, until the rest fits; once, not recursively.
    """

    def __init__(self, view: Knowledge, seed: int) -> None:
        super().__init__(view, seed)
        self._ahead_s = desk.ahead_s(view.setting)
        self._held: list[dict[int, _Held]] = [{} for _ in self.counts]
        self._work_s = [0.0] * len(self.counts)
        self._wakes_at_s = -1.0

    def arrived(self, arrival: Arrival, now: float) -> Iterable[Word]:
        self._members(now)
        times = self.ttft_s(arrival, now, self.view.cached_tokens(arrival))
        homes = self._keep(arrival, now)
        if min(times[home] for home in homes) > self.view.setting.slo_s:
            for home in homes:
                self._rebalance(home, now)
        return self.woken(now)

    def computed(self, arrival: Arrival, worker: int, cached: int, now: float) -> Iterable[Word]:
        return self.woken(now)

    def woken(self, now: float) -> Iterator[Word]:
        self._members(now)
        for worker, held in enumerate(self._held):
            while held and self.view.pending_s(now)[worker] <= self._ahead_s:
                first = max(held, key=lambda n: (self.view.cached_at(held[n].arrival, worker), -n))
                yield Send(self._take(worker, first).arrival, worker)
        queues = self.view.pending_s(now)
        waits = [q - self._ahead_s for q, held in zip(queues, self._held, strict=True) if held]
        if waits and not now < self._wakes_at_s <= now + min(waits) + _TICK_S:
            self._wakes_at_s = now + min(waits) + _TICK_S
            yield Wake(self._wakes_at_s)

    def queues_s(self, now: float) -> list[float]:
        pending = self.view.pending_s(now)
        return [q + work for q, work in zip(pending, self._work_s, strict=True)]

    def _members(self, now: float) -> None:
        """What waits for a worker that has left goes to its new homes."""
        before, self.workers = self.workers, self.view.members(now)
        for worker in before:
            if worker not in self.workers:
                for number in list(self._held[worker]):
                    self._keep(self._take(worker, number).arrival, now)

    def _keep(self, arrival: Arrival, now: float) -> tuple[int, ...]:
        homes, worker = self.homes(arrival, 2), self.choose(arrival, now)
        self._hold(arrival, worker, homes[0] + homes[-1] - worker)
        return homes

    def _rebalance(self, worker: int, now: float) -> None:
        queues, slo_s = self.queues_s(now), self.view.setting.slo_s
        moves = []
        for number, held in self._held[worker].items():
            there_s = self._work(held.arrival, held.other)
            moves.append((queues[worker] - queues[held.other] - there_s, number, there_s))
        for _, number, there_s in sorted(moves, reverse=True):
            queues = self.queues_s(now)
            if queues[worker] <= slo_s:
                return
            held = self._held[worker][number]
            if queues[held.other] + there_s < min(queues[worker], slo_s):
                self._take(worker, number)
                self._hold(held.arrival, held.other, worker)

    def _hold(self, arrival: Arrival, worker: int, other: int) -> None:
        work_s = self._work(arrival, worker)
        self._held[worker][arrival.number] = _Held(arrival, other, work_s)
        self._work_s[worker] += work_s

    def _take(self, worker: int, number: int) -> _Held:
        held = self._held[worker].pop(number)
        # Rounding must not leave work where nothing waits.
        left_s = self._work_s[worker] - held.work_s
        self._work_s[worker] = left_s if self._held[worker] else 0.0
        return held

    def _work(self, arrival: Arrival, worker: int) -> float:
        cached = self.view.cached_at(arrival, worker)
        return self.view.curve.seconds(arrival.tokens - cached, cached)


class Dynamo(Rule):
    """Dynamo: blocks to prefill here with this request's, plus blocks held by those in flight."""

    def choose(self, arrival: Arrival, now: float) -> int:
        times = self.ttft_s(arrival, now, self.view.cached_tokens(arrival))
        per_token_s = self.view.setting.token_s
        return self.least([t / per_token_s + n for t, n in zip(times, self.tokens, strict=True)])


RULES: dict[str, type[Rule]] = {
    "round robin": RoundRobin,
    "least work": LeastWork,
    "power of two": PowerOfTwo,
    "single hash": SingleHash,
    "bounded load 1.25": BoundedLoad,
    "prefix tree": PrefixTree,
    "min TTFT": MinTtft,
    "tokens x batch": TokensTimesBatch,
    "sticky 80 %": Sticky,
    "Preble": Preble,
    "DualMap": DualMap,
    "DualMap, full SLO": DualMapPaper,
    "DualMap+queue": DualMapQueue,
    "Dynamo": Dynamo,
}


def maker(rule: type[Rule], seed: int) -> Callable[[Knowledge, int], Rule]:
    """Makes the routers of one run: one ring seed for all, own chance for each."""

    def make(view: Knowledge, number: int) -> Rule:
        router = rule(view, seed)
        router.chance = random.Random(seed * 1000 + number)
        return router

    return make


@lru_cache(maxsize=256)
def _rings(workers: tuple[int, ...], seed: int) -> rings.Rings:
    names = [f"worker-{n:03}" if n in workers else None for n in range(workers[-1] + 1)]
    return rings.at_slots(names, seed=seed)
