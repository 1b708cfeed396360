"""Admission for one router: settings in, typed refusals, counts and metrics out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from baton.errors import BatonError, Reason
from baton.ids import RequestId
from baton.settings import Settings
from baton.settings.admission import DEFAULT_TENANT, TenantSettings
from router.caller import Caller
from router.metrics import RouterMetrics
from router.policy.admission import Admission, AdmissionRules, Expected, Newcomer
from router.policy.tenants import Account, Accounts, Priority, TenantRules
from router.policy.types import Refusal
from router.ports import EngineRequest

ANSWER_TOKENS = 256
"""Expected of a request that allows more; most answers end by themselves."""
_DISPLACED = "Somebody else, within its share or of higher priority, has the place it waited for."


class Gate:
    """Decides who is let in; told of what becomes of them. Belongs to one router."""

    def __init__(self, settings: Settings, metrics: RouterMetrics) -> None:
        admission = settings.admission
        parts = settings.router.routers
        tenants = {name: _rules(one, parts) for name, one in admission.tenants.items()}
        self._accounts = Accounts(tenants, DEFAULT_TENANT)
        self._retry_after_s = settings.router.retry_after_s
        rules = AdmissionRules(admission.shed_at, admission.shed_low_at, self._retry_after_s)
        self._policy = Admission(self._accounts, rules)
        self._metrics = metrics

    def knock(self, caller: Caller, requests: int, now: float) -> None:
        """Raises BatonError if the caller's limits leave no room for so many requests."""
        account = self._accounts.of(caller.tenant)
        self._check(account, account.limit(requests, 0, now))

    def enter(self, request: EngineRequest, now: float) -> None:
        """Raises BatonError if its tenant's limits leave no room; else it must leave one day."""
        account = self._accounts.of(request.caller.tenant)
        tokens = request.prompt_tokens + min(request.max_tokens, ANSWER_TOKENS)
        left_s = math.inf if request.deadline_s is None else request.deadline_s
        new = Newcomer(request.request_id, account.name, request.caller.priority, tokens, left_s)
        self._check(account, self._policy.enter(new, now))

    def weigh(
        self, request: EngineRequest, expected: Expected, now: float
    ) -> Sequence[tuple[RequestId, BatonError]]:
        """Raises BatonError if the cluster cannot serve it; returns who is refused in its place."""
        found = self._policy.weigh(request.request_id, expected, now)
        if isinstance(found, Refusal):
            self._check(self._accounts.of(request.caller.tenant), found)
            return ()
        return [(request_id, self._displaced(request_id)) for request_id in found]

    def admitted(self, request: EngineRequest) -> None:
        """It is let in."""
        self._metrics.tenant(self._accounts.of(request.caller.tenant).name, "admitted")

    def sent(self, request_id: RequestId) -> None:
        """A worker has it."""
        self._policy.sent(request_id)

    def computed(self, request_id: RequestId) -> None:
        """Its prompt is computed."""
        self._policy.computed(request_id)

    def left(self, request_id: RequestId, now: float) -> None:
        """It has ended, however, or is not let in after all. Once is enough."""
        self._policy.left(request_id, now)

    def rows(self) -> dict[str, dict[str, Any]]:
        """Each tenant with something under way."""
        return {a.name: _row(a) for a in self._accounts.all() if a.requests}

    def _check(self, account: Account, refusal: Refusal | None) -> None:
        if refusal is None:
            return
        self._metrics.tenant(account.name, refusal.reason.value)
        wait_s = max(refusal.retry_after_s or 0.0, self._retry_after_s)
        raise BatonError(refusal.reason, refusal.message, retry_after_s=wait_s)

    def _displaced(self, request_id: RequestId) -> BatonError:
        self._metrics.tenant(self._policy.tenant_of(request_id), "displaced")
        return BatonError(Reason.QUEUE_FULL, _DISPLACED, retry_after_s=self._retry_after_s)


def _rules(settings: TenantSettings, parts: int) -> TenantRules:
    """The part of one router of so many."""
    return TenantRules(
        settings.weight,
        Priority[settings.priority.upper()],
        settings.requests_per_minute / parts,
        settings.tokens_per_minute / parts,
        -(-settings.concurrent_requests // parts),
    )


def _row(account: Account) -> dict[str, Any]:
    return {
        "requests": account.requests,
        "tokens": account.tokens,
        "prompt_work_s": account.work.seconds,
    }
