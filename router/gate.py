"""Admission for one router: settings in, typed refusals, counts and metrics out."""

from __future__ import annotations

import logging
import math
from typing import Any

from baton.errors import BatonError, Reason
from baton.ids import RequestId
from baton.settings import Settings
from baton.settings.admission import DEFAULT_TENANT, TenantSettings
from router.caller import Caller
from router.metrics import RouterMetrics
from router.policy.admission import Admission, AdmissionRules, Ahead, Expected, Newcomer
from router.policy.tenants import Account, Accounts, DoorPass, Priority, TenantRules
from router.policy.types import Refusal
from router.ports import EngineRequest
from router.promises import Promises
from router.signals import DEMAND, Signals

_log = logging.getLogger(__name__)


class Gate:
    """Decides who is let in; told of what becomes of them. Belongs to one router."""

    def __init__(self, settings: Settings, metrics: RouterMetrics, signals: Signals) -> None:
        admission = settings.admission
        parts = settings.router.routers
        tenants = {name: _rules(one, parts) for name, one in admission.tenants.items()}
        self._accounts = Accounts(tenants, DEFAULT_TENANT)
        self._retry_after_s = settings.router.retry_after_s
        rules = AdmissionRules(admission.shed_at, admission.shed_low_at, self._retry_after_s)
        self._policy = Admission(self._accounts, rules)
        self._promises = Promises(settings)
        self._metrics = metrics
        self._signals = signals

    def check_limits(self, caller: Caller, requests: int, now: float) -> None:
        """Raises BatonError if the caller's own limits leave no room for so many requests."""
        account = self._accounts.of(caller.tenant)
        self._check(account, account.limit(requests, 0, now))

    def knock(self, caller: Caller, ahead: Ahead, now: float) -> DoorPass:
        """Raises BatonError if a request of this caller would be refused unread."""
        account = self._accounts.of(caller.tenant)
        found = self._policy.knock(account.name, caller.priority, ahead, now)
        if isinstance(found, Refusal):
            raise self._error(account, found)
        return found

    def give_back(self, door_pass: DoorPass) -> None:
        """The request is read, or will not be. Once is enough."""
        self._policy.give_back(door_pass)

    def enter(self, request: EngineRequest, now: float) -> None:
        """Raises BatonError if its tenant's limits leave no room; else it must leave one day."""
        passed_s = self._used(request.caller.door_pass)
        account = self._accounts.of(request.caller.tenant)
        tokens = request.prompt_tokens + request.output_tokens
        left_s = math.inf if request.deadline_s is None else request.deadline_s
        new = Newcomer(
            request.request_id, account.name, request.caller.priority, tokens, left_s, passed_s
        )
        self._check(account, self._policy.enter(new, now))

    def weigh(self, request: EngineRequest, expected: Expected, now: float) -> None:
        """Raises BatonError if the cluster cannot serve it."""
        self._signals.planned(request.request_id, expected.new_tokens, expected.cached_tokens)
        account = self._accounts.of(request.caller.tenant)
        self._check(account, self._policy.weigh(request.request_id, expected, now))

    def priority(self, request: EngineRequest) -> Priority:
        """Whose turn it is where requests wait."""
        return self._accounts.of(request.caller.tenant).priority(request.caller.priority)

    def admitted(self, request: EngineRequest, now: float) -> None:
        """It is let in."""
        self._signals.came(request, now)
        self._tell(self._accounts.of(request.caller.tenant), "admitted")

    def refused(self, reason: Reason, request: EngineRequest | int, now: float) -> None:
        """A request was not taken, whoever found out; or so many that nobody has read."""
        self._metrics.refused(reason)
        _log.info("request refused", extra=_about(reason, request))
        if reason not in DEMAND:
            return
        if isinstance(request, int):
            self._signals.unread(request, now)
        else:
            self._signals.came(request, now)

    def sent(self, request_id: RequestId) -> None:
        """A worker has it."""
        self._policy.sent(request_id)

    def computed(self, request_id: RequestId) -> None:
        """Its prompt is computed."""
        self._policy.computed(request_id)

    def answered(self, request_id: RequestId, now: float) -> None:
        """Its first token has come."""
        self._policy.answered(request_id, now)

    def left(self, request_id: RequestId, now: float) -> None:
        """It has ended, however, or is not let in after all. Once is enough."""
        self._policy.left(request_id, now)

    @property
    def kept_s(self) -> float:
        """Seconds of prompts, as predicted, that no worker has."""
        return self._policy.kept_s

    def rows(self) -> dict[str, dict[str, Any]]:
        """Each tenant with something under way."""
        return {a.name: _row(a) for a in self._accounts.active()}

    def _used(self, door_pass: DoorPass | None) -> float:
        """Seconds of work that it was for; it is for one request only."""
        if door_pass is None or not door_pass.open:
            return 0.0
        self.give_back(door_pass)
        return door_pass.work_s

    def _check(self, account: Account, refusal: Refusal | None) -> None:
        if refusal is not None:
            raise self._error(account, refusal)

    def _error(self, account: Account, refusal: Refusal) -> BatonError:
        self._tell(account, refusal.reason.value)
        wait_s = max(refusal.retry_after_s or 0.0, self._retry_after_s)
        return BatonError(refusal.reason, refusal.message, retry_after_s=wait_s)

    def _tell(self, account: Account, outcome: str) -> None:
        self._metrics.tenant(self._promises.to(account.name).tenant_label, outcome)


def _rules(settings: TenantSettings, parts: int) -> TenantRules:
    """The part of one router of so many."""
    return TenantRules(
        settings.weight,
        Priority[settings.priority.upper()],
        settings.requests_per_minute / parts,
        settings.tokens_per_minute / parts,
        -(-settings.concurrent_requests // parts),
    )


def _about(reason: Reason, request: EngineRequest | int) -> dict[str, str]:
    if isinstance(request, int):
        return {"reason": reason.value}
    tenant = request.caller.tenant
    return {"reason": reason.value, "request_id": request.request_id, "tenant": tenant}


def _row(account: Account) -> dict[str, Any]:
    return {
        "requests": account.requests,
        "tokens": account.tokens,
        "prompt_work_s": account.work.seconds,
    }
