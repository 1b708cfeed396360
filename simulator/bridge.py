"""Lets routers of the reference setting work in the full cluster model.

The rule chooses the prefill worker, as in the reference setting. The policy's own code chooses the
decode worker when a request leaves, for every rule alike; and where the rule can foresee TTFT, its
own code decides, too, whether a request is divided at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, runtime_checkable

from simulator.job import Record
from simulator.knowledge import ClusterKnowledge
from simulator.pairing import Pairing
from simulator.plugs import Choice, Refused, View
from simulator.rules import ClusterRules
from simulator.traces.request import Request
from simulator.words import Answer, Arrival, Ask, Knowledge, Router, Send, Word

Words = Iterator[tuple[Request, Choice | Refused]]


@runtime_checkable
class Foreseeing(Protocol):
    """A rule that can say what TTFT it would give."""

    def foreseen_s(self, arrival: Arrival, now: float) -> float:
        """From now until the prompt would be computed."""
        ...


class Bridge:
    """One router of the cluster model, whose fleet may not grow; see `plugs.HoldingRouter`."""

    def __init__(
        self,
        make: Callable[[Knowledge, int], Router],
        number: int,
        rules: ClusterRules,
        pairing: Pairing | None,
        *,
        slo_s: float,
        divides: bool = False,
    ) -> None:
        """Without `pairing` who computes a prompt answers it, too: there is no decode pool."""
        self._make = make
        self._number = number
        self._known = ClusterKnowledge(rules, slo_s)
        self._pairing = pairing
        self._divides = divides
        self._rule: Router | None = None
        self._requests: dict[int, Request] = {}
        self._wakes_at_s: float | None = None

    def arrived(self, request: Request, view: View, now: float) -> Words:
        """A new request is divided or not; the rule has its word on those that are."""
        self._known.look(view, now)
        rule, arrival = self._ruled(), arrival_of(request)
        if self._divides and self._pairing and isinstance(rule, Foreseeing):
            whole = self._pairing.whole(request, view, now, rule.foreseen_s(arrival, now))
            if whole is not None:
                yield request, Choice(None, whole, "whole")
                return
        self._requests[request.number] = request
        yield from self._carried(rule.arrived(arrival, now), view, now)

    def heard(self, view: View, now: float, computed: Record | None) -> Words:
        """The rule hears of its own prompts, of reports, and of the time it asked for."""
        self._known.look(view, now)
        self._wakes_at_s = None
        yield from self._carried(self._news(now, computed), view, now)

    def wakes_at_s(self) -> float | None:
        """When the rule wants to be called."""
        return self._wakes_at_s

    def _ruled(self) -> Router:
        """Made late, as rules look at what is known when they are made."""
        if self._rule is None:
            self._rule = self._make(self._known, self._number)
        return self._rule

    def _news(self, now: float, computed: Record | None) -> Iterable[Word]:
        if computed is None or computed.prefill is None:
            return self._ruled().woken(now)
        worker = self._known.position(computed.prefill)
        arrival = arrival_of(computed.request)
        return self._ruled().computed(arrival, worker, computed.hit_tokens, now)

    def _carried(self, words: Iterable[Word], view: View, now: float) -> Words:
        for word in words:
            if isinstance(word, Send):
                yield self._sent(word, view, now)
            elif isinstance(word, Ask):
                answers = self._answers(word, view)
                answered = self._ruled().answered(word.arrival, answers, now)
                yield from self._carried(answered, view, now)
            elif self._wakes_at_s is None or word.at_s < self._wakes_at_s:
                self._wakes_at_s = word.at_s

    def _sent(self, word: Send, view: View, now: float) -> tuple[Request, Choice | Refused]:
        request = self._requests.pop(word.arrival.number)
        prefill = self._known.name(word.worker)
        decode = self._pairing.decode(request, view) if self._pairing else prefill
        if decode is None:
            return request, Refused("no decode worker")
        self._known.sent(word.arrival, word.worker, now)
        return request, Choice(prefill, decode)

    def _answers(self, word: Ask, view: View) -> list[Answer]:
        names = [self._known.name(worker) for worker in word.workers]
        told = view.ask(self._requests[word.arrival.number], names)
        return [Answer(self._known.position(a.worker_id), a.queue_s, a.cached_tokens) for a in told]


def arrival_of(request: Request) -> Arrival:
    """A request as rules know it; only whole blocks can be found in a cache."""
    blocks = request.blocks[: request.whole_blocks]
    return Arrival(request.number, request.arrival_s, request.input_tokens, tuple(blocks))
