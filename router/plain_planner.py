"""Policies that look at loads only: each request is planned at once, from the view alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import Any

from baton.errors import BatonError
from baton.ids import RequestId
from baton.wire import worker_pb2 as pb
from router.planning import Chosen, Word
from router.policy import round_robin
from router.policy.types import Plan, PolicyRules, PolicyView, Refusal, RequestFacts
from router.ports import EngineRequest
from router.registry import Peer, Registry

Choose = Callable[[PolicyView, RequestFacts], Plan | Refusal]


def facts_of(request: EngineRequest) -> RequestFacts:
    """What policies may know of it."""
    return RequestFacts(request.request_id, request.prompt_tokens, request.may_disaggregate)


def error_of(refusal: Refusal) -> BatonError:
    """A policy's refusal as it goes to clients."""
    return BatonError(refusal.reason, refusal.message, retry_after_s=refusal.retry_after_s)


class PlainPlanner:
    """Implements `router.planning.Planner` over a pure policy."""

    def __init__(self, registry: Registry, rules: PolicyRules, choose: Choose) -> None:
        self._registry = registry
        self._rules = rules
        self._choose = choose

    def plan(self, request: EngineRequest, now: float) -> Sequence[Word]:
        chosen = self._choose(self._registry.policy_view(self._rules), facts_of(request))
        if isinstance(chosen, Refusal):
            raise error_of(chosen)
        return [Chosen(request.request_id, chosen)]

    def again(self, request: EngineRequest, attempt: int, why: str, now: float) -> Sequence[Word]:
        return self.plan(request, now)

    def prefilled(self, request_id: RequestId, cached_tokens: int, now: float) -> None: ...

    def left(self, request_id: RequestId) -> None: ...

    def follow(self, peers: Iterable[Peer], gone: Iterable[Peer]) -> None: ...

    def lost(self, peer: Peer, now: float) -> Sequence[Word]:
        return ()

    def heard(self, peer: Peer, frame: pb.StepFrame, now: float) -> Sequence[Word]:
        return ()

    def tick(self, now: float) -> Sequence[Word]:
        return ()

    def figures(self, now: float) -> dict[str, Any]:
        return {}


def in_turn() -> Choose:
    """Round robin with a count of its own."""
    turns = count()

    def choose(view: PolicyView, request: RequestFacts) -> Plan | Refusal:
        return round_robin.choose(view, request, next(turns))

    return choose
