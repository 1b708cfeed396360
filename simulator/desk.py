"""Baton's own prefill policy as a router of the reference setting."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

from baton import costs
from router.policy import affinity, prefill, rings
from router.policy.index import Shadow
from simulator.reference import BLOCK_TOKENS, Answer, Arrival, Ask, Send, Setting, View, Wake, Word

_FRESH_AHEAD_S = 0.1
_BLIND_AHEAD_S = 1.0
_TICK_S = 1e-6
_ANY = float("inf")


class DeskRouter:
    """Fills the policy's inputs from the simulated view, and carries its words out."""

    def __init__(self, view: View, *, ring_seed: int, may_ask: bool, facts: dict[str, Any]) -> None:
        setting = view.setting
        self._view = view
        self._fresh = _is_fresh(setting)
        self._mask = (1 << setting.workers) - 1
        # Each router sees its share of what a cache holds.
        blocks = (
            setting.cache_tokens // BLOCK_TOKENS // (setting.routers if setting.own_view else 1)
        )
        self._shadow = Shadow(setting.workers, blocks)
        rules = prefill.DeskRules(
            affinity.Rules(slo_s=setting.slo_s, **facts),
            ahead_s=ahead_s(setting),
            may_ask=may_ask,
        )
        curve = costs.PrefillCurve(setting.fixed_s, setting.token_s)
        self.desk = prefill.PrefillDesk(
            _rings(setting.workers, ring_seed), [curve] * setting.workers, self._shadow.match, rules
        )
        self._sent: dict[int, prefill.Send] = {}
        self._asked: dict[int, tuple[prefill.Request, dict[int, Answer]]] = {}
        self._arrivals: dict[int, Arrival] = {}
        self._wakes_at_s = -1.0

    def arrived(self, arrival: Arrival, now: float) -> Iterable[Word]:
        due_s = arrival.at_s + self._view.setting.slo_s
        request = prefill.Request(
            arrival.number, due_s, arrival.tokens, arrival.blocks, arrival.blocks, BLOCK_TOKENS
        )
        self._arrivals[arrival.number] = arrival
        return self._said(self.desk.arrived(request, self._state(now), now), now)

    def answered(self, arrival: Arrival, answers: Sequence[Answer], now: float) -> Iterable[Word]:
        request, known = self._asked[arrival.number]
        known.update({a.worker: a for a in answers})
        told = [prefill.Answer(a.worker, a.pending_s, a.cached_tokens) for a in known.values()]
        return self._said(self.desk.answered(request, told, self._state(now), now), now)

    def computed(self, arrival: Arrival, worker: int, cached: int, now: float) -> Iterable[Word]:
        self.desk.computed(self._sent.pop(arrival.number), cached)
        return self.woken(now)

    def woken(self, now: float) -> Iterable[Word]:
        if not self.desk:
            return ()
        return self._said(self.desk.released(self._state(now), now), now)

    def _state(self, now: float) -> prefill.State:
        return prefill.State(self._view.pending_s(now), self._mask, self._fresh)

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
    """Work that a worker gets ahead: less where the router knows the moment it runs dry."""
    return _FRESH_AHEAD_S if _is_fresh(setting) else _BLIND_AHEAD_S


def _is_fresh(setting: Setting) -> bool:
    return setting.routers == 1 and not setting.report_s


@lru_cache(maxsize=256)
def _rings(workers: int, seed: int) -> rings.Rings:
    return rings.build([f"worker-{n:03}" for n in range(workers)], seed=seed)


def maker(ring_seed: int, *, may_ask: bool, **facts: Any) -> Callable[[View, int], DeskRouter]:
    """Makes the routers of one run; `facts` replace fields of the policy's rules."""

    def make(view: View, _number: int) -> DeskRouter:
        return DeskRouter(view, ring_seed=ring_seed, may_ask=may_ask, facts=facts)

    return make
