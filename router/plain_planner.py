"""Policies that look at loads only: each request is planned at once, from the view alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

from baton.costs import DecodeCurve, PrefillCurve
from baton.errors import BatonError
from baton.ids import RequestId, WorkerId
from baton.wire import worker_pb2 as pb
from router.life import PlaceAgain
from router.peer import Peer
from router.planning import SAME_WORKER, Chosen, Word
from router.policy import round_robin
from router.policy.admission import Ahead
from router.policy.types import Plan, PolicyRules, PolicyView, Refusal, RequestFacts
from router.ports import EngineRequest
from router.registry import Registry

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
        return self._plan(request, self._registry.policy_view(self._rules))

    def again(self, request: EngineRequest, command: PlaceAgain, now: float) -> Sequence[Word]:
        view = self._registry.policy_view(self._rules)
        try:
            return self._plan(request, _without(view, command.worker_id))
        except BatonError:
            if command.reason not in SAME_WORKER:
                raise
        return self._plan(request, view)

    def _plan(self, request: EngineRequest, view: PolicyView) -> Sequence[Word]:
        chosen = self._choose(view, facts_of(request))
        if isinstance(chosen, Refusal):
            raise error_of(chosen)
        return [Chosen(request.request_id, chosen)]

    def prefilled(self, request_id: RequestId, cached_tokens: int, now: float) -> None: ...

    def left(self, request_id: RequestId) -> None: ...

    def follow(self, peers: Iterable[Peer], gone: Iterable[Peer]) -> None: ...

    def lost(self, peer: Peer, now: float) -> Sequence[Word]:
        return ()

    def heard(self, peer: Peer, frame: pb.StepFrame, now: float) -> Sequence[Word]:
        return ()

    def tick(self, now: float) -> Sequence[Word]:
        return ()

    def ahead(self, now: float) -> Ahead:
        return Ahead(0.0, 1)

    def costs(self, peer: Peer) -> tuple[PrefillCurve | None, DecodeCurve | None]:
        return None, None

    def figures(self, now: float) -> dict[str, Any]:
        return {}


def _without(view: PolicyView, worker_id: WorkerId) -> PolicyView:
    prefill, decode = (
        tuple(w for w in workers if w.worker_id != worker_id)
        for workers in (view.prefill, view.decode)
    )
    return replace(view, prefill=prefill, decode=decode)


def in_turn() -> Choose:
    """Round robin with a count of its own."""
    turns = count()

    def choose(view: PolicyView, request: RequestFacts) -> Plan | Refusal:
        return round_robin.choose(view, request, next(turns))

    return choose
