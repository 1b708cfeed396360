"""The least loaded worker of each role.

Prefill goes where the fewest prompt tokens queue, decode where the fewest requests are. Between
equals the request id decides, so that the same view sends different requests to different workers
and the same request always to the same one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from baton.errors import Reason
from baton.ids import WorkerId
from baton.messages import Role
from router.policy.types import (
    ChoiceReason,
    Plan,
    PolicyRules,
    PolicyView,
    Refusal,
    RequestFacts,
    WorkerView,
)

_Load = Callable[[WorkerView], tuple[float, ...]]


def choose(view: PolicyView, request: RequestFacts) -> Plan | Refusal:
    """Who serves the request, or why nobody can now."""
    decode = _pick(view, Role.DECODE, request)
    if isinstance(decode, Refusal):
        return decode
    reason = division(view.rules, request, has_prefill=bool(_taking(view.prefill)))
    if reason is not ChoiceReason.DISAGGREGATED:
        return Plan(None, decode, view.dispatch, reason)
    prefill = _pick(view, Role.PREFILL, request)
    if isinstance(prefill, Refusal):
        return prefill
    return Plan(prefill, decode, view.dispatch, reason)


def refusal(view: PolicyView) -> Refusal | None:
    """Why no request at all can be served now; None when some can."""
    return nobody(view, Role.DECODE)


def division(rules: PolicyRules, request: RequestFacts, *, has_prefill: bool) -> ChoiceReason:
    """Whether the request may be disaggregated, and if not, why.

    `has_prefill`: there is a prefill worker that takes requests, full or not.
    """
    if rules.disaggregate == "never":
        return ChoiceReason.SETTING
    if not request.may_disaggregate:
        return ChoiceReason.NOT_DIVISIBLE
    if rules.disaggregate == "auto":
        if request.prompt_tokens < rules.min_disaggregated_tokens:
            return ChoiceReason.SHORT_PROMPT
        if not has_prefill:
            return ChoiceReason.NO_PREFILL_WORKER
    return ChoiceReason.DISAGGREGATED


def _pick(view: PolicyView, role: Role, request: RequestFacts) -> WorkerId | Refusal:
    """The worker of this role with the least load that is not full."""
    refused = nobody(view, role)
    if refused is not None:
        return refused
    load = _LOADS[role]
    best = min(free(view, role), key=lambda w: (load(w), _tie(w.worker_id, request)))
    return best.worker_id


def nobody(view: PolicyView, role: Role) -> Refusal | None:
    """Why no worker of this role takes a request, from the most to the least permanent cause."""
    wait_s = view.rules.retry_after_s
    workers = _workers(view, role)
    if free(view, role):
        return None
    if _taking(workers):
        return Refusal(Reason.WORKER_FULL, f"Every {role.value} worker's queue is full.", wait_s)
    if role in view.starting:
        return Refusal(Reason.STARTING, f"The {role.value} workers are starting.", wait_s)
    if workers:
        return Refusal(Reason.DRAINING, f"Every {role.value} worker is draining.", wait_s)
    return Refusal(Reason.NO_WORKER, f"There is no {role.value} worker.", wait_s)


def _workers(view: PolicyView, role: Role) -> tuple[WorkerView, ...]:
    return view.prefill if role is Role.PREFILL else view.decode


def _taking(workers: tuple[WorkerView, ...]) -> tuple[WorkerView, ...]:
    return tuple(w for w in workers if not (w.draining or w.load.draining))


def free(view: PolicyView, role: Role) -> tuple[WorkerView, ...]:
    """The workers of a role that take requests."""
    rules = view.rules
    is_prefill = role is Role.PREFILL
    most = rules.max_queued_prefill_requests if is_prefill else rules.max_queued_decode_requests
    return tuple(w for w in _taking(_workers(view, role)) if w.waiting < most)


def _prefill_load(worker: WorkerView) -> tuple[float, ...]:
    return (worker.queued_prompt_tokens, worker.requests)


def _decode_load(worker: WorkerView) -> tuple[float, ...]:
    return (worker.requests, worker.load.kv_used)


_LOADS: dict[Role, _Load] = {Role.PREFILL: _prefill_load, Role.DECODE: _decode_load}


def _tie(worker_id: WorkerId, request: RequestFacts) -> bytes:
    return hashlib.blake2b(f"{request.request_id}\0{worker_id}".encode(), digest_size=8).digest()
