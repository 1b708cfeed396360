"""Baton's own prefill policy as a router of the reference setting and of the cluster model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

from router.policy import affinity, prefill, rings
from router.policy.index import Levels, Shadow
from simulator.traces.request import BLOCK_TOKENS
from simulator.words import Answer, Arrival, Ask, Knowledge, Send, Setting, Wake, Word

_FRESH_AHEAD_S = 0.1
_BLIND_AHEAD_S = 1.0
_TICK_S = 1e-6
_ANY = float("inf")


class DeskRouter:
    """Fills the policy's inputs from what it knows, and carries its words out."""

    def __init__(
        self, view: Knowledge, *, ring_seed: int, may_ask: bool, facts: dict[str, Any]
    ) -> None:
        setting = view.setting
        self._view = view
        self._fresh = _is_fresh(setting)
        self._ring_seed = ring_seed
        self._members = view.members(0.0)
        # Each router sees its share of what a cache holds.
        blocks = (
            setting.cache_tokens // BLOCK_TOKENS // (setting.routers if setting.own_view else 1)
        )
        self._shadow = Shadow(setting.workers, blocks)
        rules = prefill.DeskRules(
            affinity.Rules(slo_s=setting.slo_s, **facts), ahead_s=ahead_s(setting), may_ask=may_ask
        )
        curves = [view.curve] * setting.workers
        self.desk = prefill.PrefillDesk(self._rings(), curves, self._levels, rules)
        self._sent: dict[int, prefill.Send] = {}
        self._asked: dict[int, tuple[prefill.Request, dict[int, Answer]]] = {}
        self._arrivals: dict[int, Arrival] = {}
        self._wakes_at_s = -1.0
        self._matched: dict[tuple[int, ...], Levels] = {}
        """Since the last news: one plan looks at each prompt more than once."""

    def arrived(self, arrival: Arrival, now: float) -> Iterable[Word]:
        request = self._request(arrival)
        self._arrivals[arrival.number] = arrival
        return self._said(self.desk.arrived(request, self._state(now), now), now)

    def answered(self, arrival: Arrival, answers: Sequence[Answer], now: float) -> Iterable[Word]:
        request, known = self._asked[arrival.number]
        known.update({a.worker: a for a in answers})
        told = [prefill.Answer(a.worker, a.pending_s, a.cached_tokens) for a in known.values()]
        return self._said(self.desk.answered(request, told, self._state(now), now), now)

    def computed(self, arrival: Arrival, worker: int, cached: int, now: float) -> Iterable[Word]:
        self.desk.computed(self._sent.pop(arrival.number), cached)
        self._asked.pop(arrival.number, None)
        return self.woken(now)

    def woken(self, now: float) -> Iterable[Word]:
        if not self.desk:
            return ()
        return self._said(self.desk.released(self._state(now), now), now)

    def foreseen_s(self, arrival: Arrival, now: float) -> float:
        """TTFT from now if the request were sent at once; infinite without workers."""
        choice = self.desk.preview(self._request(arrival), self._state(now), now)
        return choice.chosen.ttft_s if choice else float("inf")

    def _request(self, arrival: Arrival) -> prefill.Request:
        due_s = arrival.at_s + self._view.setting.slo_s
        tokens, blocks = arrival.tokens, arrival.blocks
        return prefill.Request(arrival.number, due_s, tokens, blocks, blocks, BLOCK_TOKENS)

    def _state(self, now: float) -> prefill.State:
        self._matched.clear()
        members = self._view.members(now)
        if members != self._members:
            for worker in set(members) - set(self._members):
                self._shadow.forget(worker)
            self._members = members
            self.desk.members(self._rings())
        mask = sum(1 << worker for worker in members)
        return prefill.State(self._view.pending_s(now), mask, self._fresh)

    def _levels(self, blocks: Sequence[int]) -> Levels:
        key = tuple(blocks)
        found = self._matched.get(key)
        if found is None:
            known = self._view.levels(key)
            found = self._matched[key] = self._shadow.match(key) if known is None else known
        return found

    def _rings(self) -> rings.Rings:
        return _rings(self._members, self._ring_seed)

    def _said(self, words: Sequence[prefill.Send | prefill.Ask], now: float) -> Iterator[Word]:
        for word in words:
            yield self._send(word) if isinstance(word, prefill.Send) else self._ask(word)
        wait_s = self.desk.next_room_s(self._state(now))
        if wait_s is not None and not now < self._wakes_at_s <= now + wait_s + _TICK_S:
            self._wakes_at_s = now + wait_s + _TICK_S
            yield Wake(self._wakes_at_s)

    def _send(self, word: prefill.Send) -> Send:
        number = word.request.number
        arrival = self._arrivals.pop(number) if word.queue_max_s == _ANY else self._arrivals[number]
        self._sent[number] = word
        self._shadow.sent(word.worker, arrival.blocks)
        return Send(arrival, word.worker, word.queue_max_s)

    def _ask(self, word: prefill.Ask) -> Ask:
        self._asked[word.request.number] = word.request, {}
        return Ask(self._arrivals[word.request.number], word.workers)


def ahead_s(setting: Setting) -> float:
    """Work that a worker gets ahead: less where the router alone decides when it runs dry."""
    return _FRESH_AHEAD_S if _is_fresh(setting) and setting.routers == 1 else _BLIND_AHEAD_S


def _is_fresh(setting: Setting) -> bool:
    """Who alone sends knows all that was sent, whatever is reported."""
    return setting.routers == 1 or not (setting.report_s or setting.own_view)


@lru_cache(maxsize=256)
def _rings(members: tuple[int, ...], seed: int) -> rings.Rings:
    names = [f"worker-{n:03}" if n in members else None for n in range(members[-1] + 1)]
    return rings.at_slots(names, seed=seed)


def maker(ring_seed: int, *, may_ask: bool, **facts: Any) -> Callable[[Knowledge, int], DeskRouter]:
    """Makes the routers of one run; `facts` replace fields of the policy's rules."""

    def make(view: Knowledge, _number: int) -> DeskRouter:
        return DeskRouter(view, ring_seed=ring_seed, may_ask=may_ask, facts=facts)

    return make
