"""Lets the router's own policies choose in a simulation: the same code as in production."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from baton.ids import RequestId
from baton.messages import Dispatch, WorkerLoad
from router.policy.types import Plan, PolicyRules, PolicyView, Refusal, RequestFacts, WorkerView
from simulator.plugs import Choice, Refused, Sight, View
from simulator.traces.request import Request

_DEFAULT = PolicyRules()

Policy: TypeAlias = Callable[[PolicyView, RequestFacts], Plan | Refusal]


class PolicyRouter:
    """A router that follows a policy of `router.policy`. A refusal ends the request."""

    def __init__(self, policy: Policy, rules: PolicyRules = _DEFAULT) -> None:
        self._policy = policy
        self._rules = rules

    def choose(self, request: Request, view: View, now: float) -> Choice | Refused | None:
        """What the policy says."""
        seen = PolicyView(
            prefill=tuple(map(_worker, view.prefill)),
            decode=tuple(map(_worker, view.decode)),
            dispatch=Dispatch.CONCURRENT,
            rules=self._rules,
        )
        facts = RequestFacts(RequestId(f"r{request.number}"), request.input_tokens)
        plan = self._policy(seen, facts)
        if isinstance(plan, Refusal):
            return Refused(plan.reason.value)
        return Choice(plan.prefill, plan.decode, plan.reason.value)


def _worker(sight: Sight) -> WorkerView:
    load = WorkerLoad(
        running=sight.batch,
        waiting=sight.waiting,
        kv_used=sight.kv_used / sight.kv_capacity,
        queued_prompt_tokens=sight.queued_tokens,
    )
    return WorkerView(sight.worker_id, load, sight.pending_requests, sight.pending_tokens)
