"""Who is let in when not everything can be served.

Two stages, of which the worse one counts: the prompt (will its first token come in time, all that
stands before it included) and the answer (does its KV find room, do the others keep their TPOT).
What can be served is let in, whoever asks. Beyond that each tenant has a share by weight of what is
under way: who is below it still gets in, and takes the place of requests that are only kept in the
router and belong to tenants above theirs, or to a lower priority. So the queue does not grow, and a
tenant within its share never pays for another's flood. Everybody else is told at once when to ask
again. A tenant's own limits come before all that.

Shares are of the work under way rather than of a rate, so that what an idle tenant leaves is used.
Pure: time comes as readings of one clock. Nothing is kept of a request that is refused.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from baton.errors import Reason
from baton.ids import RequestId
from router.policy.drain_rate import DrainRate
from router.policy.tenants import Account, Accounts, Priority, Work
from router.policy.types import Refusal

WAIT_SHARE_MIN = 0.25
"""Of the promise: what a prompt may wait that would break the promise on an idle cluster too."""


@dataclass(frozen=True, slots=True)
class AdmissionRules:
    """Of one router; see `baton.settings`."""

    shed_at: float = 1.0
    shed_low_at: float = 0.5
    retry_after_s: float = 1.0


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
    tpot_s: float = 0.0
    """Of the batch with it inside; 0 = not known."""
    tpot_promise_s: float = 0.0
    crowded: bool = False
    """Its KV finds no room among the others'."""


class Newcomer(NamedTuple):
    """A request that wants in."""

    request_id: RequestId
    tenant: str
    priority: Priority
    tokens: int
    """Of its prompt, and those expected of its answer."""
    left_s: float = math.inf
    """Until its client gives up."""


@dataclass(slots=True)
class _Inside:
    account: Account
    priority: Priority
    tokens: int
    left_s: float
    work_s: float | None = None
    """Of its prompt, from being let in until it is computed."""
    kept: bool = False
    """It waits in the router, and nobody has seen anything of its answer."""


class Admission:
    """Of one router. Bounded by the requests inside it and the tenants in the settings."""

    def __init__(self, accounts: Accounts, rules: AdmissionRules) -> None:
        self._accounts = accounts
        self._rules = rules
        self._inside: dict[RequestId, _Inside] = {}
        self._kept = Work()
        self._drain = DrainRate()

    def enter(self, new: Newcomer, now: float) -> Refusal | None:
        """Lets a request in as far as its tenant's limits go; then it is weighed, or leaves."""
        account = self._accounts.of(new.tenant)
        if refusal := account.limit(1, new.tokens, now):
            return refusal
        account.enter(new.tokens, now)
        priority = min(new.priority, account.rules.priority)
        self._inside[new.request_id] = _Inside(account, priority, new.tokens, new.left_s)
        return None

    def weigh(
        self, request_id: RequestId, expected: Expected, now: float
    ) -> Refusal | list[RequestId]:
        """Whether the cluster can serve a request that has entered. Returns whose places it takes.

        With a refusal it has to leave.
        """
        one = self._inside[request_id]
        wait_s = expected.wait_s + self._kept.seconds / max(expected.workers, 1)
        missing_s = wait_s + expected.work_s - one.left_s
        if self._rules.shed_at and wait_s > 0 and missing_s > 0:
            return self._refusal("No answer could begin before the request's deadline.", missing_s)
        late_s, slow = self._late_s(one, expected, wait_s), self._slow(one, expected)
        if late_s <= 0 and not slow:
            places = []
        else:
            taken = self._places(one, expected.work_s, slow=slow)
            if taken is None:
                return self._shed(one, late_s, now)
            places = taken
        self._take_in(one, expected.work_s)
        return places

    def tenant_of(self, request_id: RequestId) -> str:
        """Whose request that is; it must be inside."""
        return self._inside[request_id].account.name

    # --- what becomes of those inside; unknown requests are ignored -------------------------------

    def sent(self, request_id: RequestId) -> None:
        """A worker has it."""
        one = self._inside.get(request_id)
        if one is not None and one.kept:
            one.kept = False
            self._kept.remove(one.work_s or 0.0)

    def computed(self, request_id: RequestId) -> None:
        """Its prompt is computed."""
        self.sent(request_id)
        one = self._inside.get(request_id)
        if one is not None and one.work_s is not None:
            one.account.work.remove(one.work_s)
            one.work_s = None

    def left(self, request_id: RequestId, now: float) -> None:
        """It has ended, however, or is not let in after all."""
        self.computed(request_id)
        one = self._inside.pop(request_id, None)
        if one is not None:
            one.account.leave(one.tokens)
            self._drain.went(one.tokens, now)

    # --- whether it can be served -----------------------------------------------------------------

    def _late_s(self, one: _Inside, expected: Expected, wait_s: float) -> float:
        """Seconds by which its prompt would wait too long; 0 or less: it would not."""
        shed_at = self._shed_at(one)
        if not shed_at:
            return 0.0
        limit_s = shed_at * expected.ttft_promise_s
        return wait_s - max(limit_s - expected.work_s, WAIT_SHARE_MIN * limit_s)

    def _slow(self, one: _Inside, expected: Expected) -> bool:
        """Whether its answer would be slow, or make others slow."""
        shed_at = self._shed_at(one)
        too_slow = expected.tpot_s > shed_at * expected.tpot_promise_s > 0
        return shed_at > 0 and (expected.crowded or too_slow)

    def _shed_at(self, one: _Inside) -> float:
        low = one.priority is Priority.LOW
        return self._rules.shed_at * (self._rules.shed_low_at if low else 1.0)

    def _take_in(self, one: _Inside, work_s: float) -> None:
        one.work_s, one.kept = work_s, True
        one.account.work.add(work_s)
        self._kept.add(work_s)

    def _shed(self, one: _Inside, late_s: float, now: float) -> Refusal:
        if late_s > 0:
            return self._refusal("The cluster could not begin to answer in time.", late_s)
        wait_s = self._drain.seconds(one.tokens, now)
        return self._refusal("The cluster has no room for a further answer.", wait_s)

    def _refusal(self, text: str, wait_s: float) -> Refusal:
        return Refusal(Reason.QUEUE_FULL, text, max(wait_s, self._rules.retry_after_s))

    # --- whose place it takes if not --------------------------------------------------------------

    def _places(self, one: _Inside, work_s: float, *, slow: bool) -> list[RequestId] | None:
        """None: it is to be refused."""
        found: list[RequestId] = []
        free_s = 0.0
        for request_id, other_s in self._weaker(one):
            if free_s >= work_s:
                break
            found.append(request_id)
            free_s += other_s
        # Nothing that is only kept here has KV: its place is no room for an answer.
        makes_room = bool(found) and free_s >= work_s and not slow
        return found if makes_room or self._within_share(one, work_s, slow=slow) else None

    def _within_share(self, one: _Inside, work_s: float, *, slow: bool) -> bool:
        """Nothing of its own under way is within every share, unless nobody else is here."""
        account = one.account
        if self._accounts.alone(account):
            return False
        # It has entered, so that its tokens are counted and its work is not.
        if slow and account.tokens > self._accounts.share_of_tokens(account):
            return account.requests == 1
        mine_s = account.work.seconds
        return not mine_s or mine_s + work_s <= self._accounts.share_of_work(account, account)

    def _weaker(self, one: _Inside) -> list[tuple[RequestId, float]]:
        """Requests kept here that make room for it, and their work: lowest, then newest first."""
        over = {a.name for a in self._accounts.all() if self._over_share(a, one.account)}
        kept = [
            (other.priority, request_id, other.work_s or 0.0)
            for request_id, other in reversed(self._inside.items())
            if other.kept and other.account is not one.account and _gives_way(other, one, over)
        ]
        kept.sort(key=lambda found: found[0])
        return [(request_id, work_s) for _, request_id, work_s in kept]

    def _over_share(self, account: Account, newcomer: Account) -> bool:
        return account.work.seconds > self._accounts.share_of_work(account, newcomer)


def _gives_way(other: _Inside, one: _Inside, over: set[str]) -> bool:
    above_share = other.account.name in over and other.priority <= one.priority
    return other.priority < one.priority or above_share
