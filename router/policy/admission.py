"""Who is let in when not everything can be served.

Two stages, of which the worse one counts: the prompt (will its first token come in time, all that
stands before it included) and the answer (does its KV find room, do the others keep their TPOT).
What can be served is let in, whoever asks; the queue is as long as the promise allows. Each tenant
that has something under way is due its share of that queue by weight: who is below it gets in, and
what the others leave of theirs nobody else may fill. So a tenant within its share never pays for
another's flood, and nobody who was let in is sent away again. Everybody else is told at once when
to ask again. A tenant's own limits come before all that.

Shares are of the queue rather than of a rate: what an idle tenant leaves is used, and short queues
keep workers as busy as long ones. A burst of a tenant that came with less than its share lately
may be above it for a moment. Pure: time comes as readings of one clock. Nothing is kept of a
request that is refused.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from baton.errors import Reason
from baton.ids import RequestId
from router.policy.drain_rate import DrainRate
from router.policy.forecast_error import ForecastError
from router.policy.tenants import Account, Accounts, DoorPass, Priority, Work
from router.policy.types import Refusal

WAIT_SHARE_MIN = 0.25
"""Of the promise: what a prompt may wait that would break the promise on an idle cluster too."""
PASS_STRETCHES = 2.0
"""So many times longer than typical a request may be that was let in before it was read."""
BURST_STRETCH = 1.25
"""So many times the promise a tenant that came with less than its share may wait, as predicted."""
SLOW_HOLDS_S = 0.1
"""For so long a batch that was found too slow, or without room, is taken for the same."""


@dataclass(frozen=True, slots=True)
class AdmissionRules:
    """Of one router; see `baton.settings`."""

    shed_at: float = 1.0
    shed_low_at: float = 0.5
    retry_after_s: float = 1.0


class Ahead(NamedTuple):
    """What stands before a prompt that comes now, where least does, and workers to compute it."""

    wait_s: float
    workers: int


@dataclass(frozen=True, slots=True)
class Expected:
    """What is predicted for a request if it is let in. Seconds."""

    wait_s: float
    """What stands before its prompt on the worker that it would go to."""
    work_s: float
    """What its prompt takes there."""
    workers: int
    """Workers that could compute it."""
    ttft_promise_s: float
    after_s: float = 0.0
    """From the computed prompt to the first token."""
    tpot_s: float = 0.0
    """Of the batch with it inside; 0 = not known."""
    tpot_promise_s: float = 0.0
    crowded: bool = False
    """Its KV finds no room among the others'."""
    new_tokens: float = 0.0
    """Of its prompt: what would be computed there; 0 for prompts that are no prefill worker's."""
    cached_tokens: float = 0.0
    """Of its prompt, held there."""

    @property
    def own_s(self) -> float:
        """Its TTFT where nothing stands before it."""
        return self.work_s + self.after_s


class Newcomer(NamedTuple):
    """A request that wants in."""

    request_id: RequestId
    tenant: str
    priority: Priority
    tokens: int
    """Of its prompt, and those expected of its answer."""
    left_s: float = math.inf
    """Until its client gives up."""
    passed_s: float = 0.0
    """For so much of its own time it had a pass."""


@dataclass(slots=True)
class _Inside:
    account: Account
    priority: Priority
    tokens: int
    left_s: float
    passed_s: float = 0.0
    work_s: float | None = None
    """Of its prompt, from being let in until it is computed."""
    kept: bool = False
    """It waits in the router."""
    let_in_at: float | None = None
    due_s: float | None = None
    """Until its first token, as predicted; None once that has come."""


class Admission:
    """Of one router. Bounded by the requests inside it, and the tenants and promises in the
    settings."""

    def __init__(self, accounts: Accounts, rules: AdmissionRules) -> None:
        self._accounts = accounts
        self._rules = rules
        self._inside: dict[RequestId, _Inside] = {}
        self._kept = {priority: Work() for priority in Priority}
        self._drain = DrainRate()
        self._error = ForecastError()
        self._slow_until: dict[float, float] = {}
        """By promised TPOT: what is too slow for one class may do for another."""

    # --- decisions --------------------------------------------------------------------------------

    def knock(self, tenant: str, wanted: Priority, ahead: Ahead, now: float) -> Refusal | DoorPass:
        """Whether a request like this tenant's last ones would be refused: it need not be read.

        A pass counts until it is used or given back. Whoever has one is weighed all the same.
        """
        account = self._accounts.of(tenant)
        typical, priority = account.typical, account.priority(wanted)
        if typical.promise_s:
            expected = Expected(ahead.wait_s, typical.work_s, ahead.workers, typical.promise_s)
            one = _Inside(account, priority, round(typical.tokens), math.inf)
            slow = now < self._slow_until.get(typical.tpot_promise_s, -math.inf)
            if refusal := self._judged(one, expected, now, slow=slow):
                account.asked.add(typical.work_s, now)
                return refusal
        account.work.add(typical.work_s)
        self._kept[priority].add(typical.work_s)
        return DoorPass(account, priority, typical.work_s)

    def give_back(self, held: DoorPass) -> None:
        """The request is read, or will not be. Once is enough."""
        if held.open:
            held.open = False
            held.account.work.remove(held.work_s)
            self._kept[held.priority].remove(held.work_s)

    def enter(self, new: Newcomer, now: float) -> Refusal | None:
        """Lets a request in as far as its tenant's limits go; then it is weighed, or leaves."""
        account = self._accounts.of(new.tenant)
        if refusal := account.limit(1, new.tokens, now):
            return refusal
        self._accounts.enter(account, new.tokens, now)
        priority = account.priority(new.priority)
        self._inside[new.request_id] = _Inside(
            account, priority, new.tokens, new.left_s, new.passed_s
        )
        return None

    def weigh(self, request_id: RequestId, expected: Expected, now: float) -> Refusal | None:
        """Whether the cluster can serve one that has entered. With a refusal it must leave.

        Who has been let in is not weighed again, wherever it is placed.
        """
        one = self._inside[request_id]
        if one.let_in_at is not None:
            return None
        promise_s, tpot_promise_s = expected.ttft_promise_s, expected.tpot_promise_s
        one.account.typical.learn(expected.own_s, promise_s, one.tokens, tpot_promise_s)
        if slow := self._slow(one, expected):
            self._slow_until[tpot_promise_s] = now + SLOW_HOLDS_S
        refusal = self._judged(one, expected, now, slow=slow)
        one.account.asked.add(expected.work_s, now)
        if refusal is None:
            one.let_in_at, one.due_s = now, self._wait_s(one, expected) + expected.own_s
            one.work_s, one.kept = expected.work_s, True
            one.account.work.add(expected.work_s)
            self._kept[one.priority].add(expected.work_s)
        return refusal

    # --- what becomes of those inside; unknown requests are ignored -------------------------------

    def sent(self, request_id: RequestId) -> None:
        """A worker has it."""
        one = self._inside.get(request_id)
        if one is not None and one.kept:
            one.kept = False
            self._kept[one.priority].remove(one.work_s or 0.0)

    def computed(self, request_id: RequestId) -> None:
        """Its prompt is computed."""
        self.sent(request_id)
        one = self._inside.get(request_id)
        if one is not None and one.work_s is not None:
            one.account.work.remove(one.work_s)
            one.work_s = None

    def answered(self, request_id: RequestId, now: float) -> None:
        """Its first token has come."""
        self.computed(request_id)
        one = self._inside.get(request_id)
        if one is not None and one.due_s is not None and one.let_in_at is not None:
            most_s = one.account.typical.promise_s
            self._error.came(one.due_s, now - one.let_in_at, most_s)
            one.due_s = None

    def left(self, request_id: RequestId, now: float) -> None:
        """It has ended, however, or is not let in after all."""
        self.computed(request_id)
        one = self._inside.pop(request_id, None)
        if one is not None:
            self._accounts.leave(one.account, one.tokens)
            self._drain.went(one.tokens, now)

    @property
    def kept_s(self) -> float:
        """Seconds of prompts that no worker has, those included that still are being read."""
        return sum(work.seconds for work in self._kept.values())

    @property
    def margin_s(self) -> float:
        """What is added to predictions, for they have been off."""
        return self._error.margin_s

    # --- whether it can be served -----------------------------------------------------------------

    def _judged(
        self, one: _Inside, expected: Expected, now: float, *, slow: bool
    ) -> Refusal | None:
        shed_at = self._shed_at(one)
        if not shed_at:
            return None
        if slow and not self._accounts.within_tokens(one.account, one.tokens):
            wait_s = self._drain.seconds(one.tokens, now)
            return self._refusal("The cluster has no room for a further answer.", wait_s)
        wait_s = self._wait_s(one, expected)
        if wait_s <= 0:
            return None
        if (missing_s := wait_s + expected.own_s - one.left_s) > 0:
            return self._refusal("No answer could begin before the request's deadline.", missing_s)
        if expected.own_s <= PASS_STRETCHES * one.passed_s:
            # To read it cost more than to refuse it now could save.
            return None
        late_s = self._late_s(one, expected, wait_s, shed_at * expected.ttft_promise_s, now)
        if late_s > 0:
            return self._refusal("The cluster could not begin to answer in time.", late_s)
        return None

    def _late_s(
        self, one: _Inside, expected: Expected, wait_s: float, limit_s: float, now: float
    ) -> float:
        """Seconds by which the queue is too long for it; 0 or less: it is not."""
        margin_s = min(self._error.margin_s, (1 - WAIT_SHARE_MIN) * limit_s)
        room_s = max(limit_s - margin_s - expected.own_s, WAIT_SHARE_MIN * limit_s)
        workers = max(expected.workers, 1)
        shares = self._accounts.shares(one.account, room_s * workers)
        if shares.within(expected.work_s):
            return 0.0
        wait_s += shares.left_by_others_s / workers
        early = wait_s + expected.own_s <= BURST_STRETCH * limit_s
        if early and self._accounts.within_rate(one.account, expected.work_s, workers, now):
            return 0.0
        return wait_s - room_s

    def _wait_s(self, one: _Inside, expected: Expected) -> float:
        """What goes before it: those of lower priority do not."""
        kept_s = sum(work.seconds for p, work in self._kept.items() if p >= one.priority)
        return expected.wait_s + kept_s / max(expected.workers, 1)

    def _slow(self, one: _Inside, expected: Expected) -> bool:
        """Whether its answer would be slow, or make others slow."""
        too_slow = expected.tpot_s > self._shed_at(one) * expected.tpot_promise_s > 0
        return expected.crowded or too_slow

    def _shed_at(self, one: _Inside) -> float:
        low = one.priority is Priority.LOW
        return self._rules.shed_at * (self._rules.shed_low_at if low else 1.0)

    def _refusal(self, text: str, wait_s: float) -> Refusal:
        return Refusal(Reason.QUEUE_FULL, text, max(wait_s, self._rules.retry_after_s))
