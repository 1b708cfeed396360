"""Tenants: their limits, and what each has under way.

Pure: time comes as readings of one clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from baton.errors import Reason
from router.policy.buckets import MinuteBucket
from router.policy.drain_rate import MEMORY_S, Lately
from router.policy.types import Refusal

_NEW_SHARE = 0.1


class Priority(IntEnum):
    """Who is refused first."""

    LOW = 0
    NORMAL = 1
    HIGH = 2


@dataclass(frozen=True, slots=True)
class TenantRules:
    """0 = no limit. See `baton.settings` for the meaning."""

    weight: float = 1.0
    priority: Priority = Priority.NORMAL
    requests_per_minute: float = 0.0
    tokens_per_minute: float = 0.0
    concurrent_requests: float = 0.0


@dataclass(slots=True)
class Work:
    """A sum of seconds that is exactly nothing once all of it has gone."""

    parts: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        self.parts += 1
        self.seconds += seconds

    def remove(self, seconds: float) -> None:
        self.parts -= 1
        self.seconds = self.seconds - seconds if self.parts else 0.0


@dataclass(slots=True)
class Typical:
    """A tenant's last requests that were weighed; nothing before the first."""

    work_s: float = 0.0
    promise_s: float = 0.0
    tokens: float = 0.0
    tpot_promise_s: float = 0.0
    """The last one known; 0 = none yet."""

    def learn(
        self, work_s: float, promise_s: float, tokens: int, tpot_promise_s: float = 0.0
    ) -> None:
        """One more."""
        self.tpot_promise_s = tpot_promise_s or self.tpot_promise_s
        share = _NEW_SHARE if self.promise_s else 1.0
        self.work_s += share * (work_s - self.work_s)
        self.promise_s += share * (promise_s - self.promise_s)
        self.tokens += share * (tokens - self.tokens)


@dataclass(frozen=True, slots=True)
class Shares:
    """Of the queue: what one tenant is due, and has; what others are due and have not."""

    due_s: float
    work: Work
    left_by_others_s: float
    alone: bool

    def within(self, work_s: float) -> bool:
        """Whether so much more is the tenant's due. Who has nothing under way is due one prompt."""
        if self.alone:
            return False
        return not self.work.parts or self.work.seconds + work_s <= self.due_s


@dataclass(slots=True)
class DoorPass:
    """A request that may come in and is not read yet; it counts as a typical one."""

    account: Account
    priority: Priority
    work_s: float
    open: bool = True


class Account:
    """One tenant now."""

    def __init__(self, name: str, rules: TenantRules) -> None:
        self.name = name
        self.rules = rules
        self.requests = 0
        """Inside the router."""
        self.tokens = 0
        """Of those: their prompts and expected answers."""
        self.work = Work()
        """Of those: prompts that are let in and not computed."""
        self.asked = Lately()
        """Seconds of prompts that it came with, refused ones too."""
        self.typical = Typical()
        self._limits = (
            (MinuteBucket(rules.requests_per_minute), f"{rules.requests_per_minute:.0f} requests"),
            (MinuteBucket(rules.tokens_per_minute), f"{rules.tokens_per_minute:.0f} tokens"),
        )

    def priority(self, wanted: Priority) -> Priority:
        """That of a request, which can only lower its tenant's."""
        return min(wanted, self.rules.priority)

    def limit(self, requests: int, tokens: int, now: float) -> Refusal | None:
        """What refuses so many more requests with so many tokens; nothing is counted off."""
        most = self.rules.concurrent_requests
        if 0 < most < self.requests + requests:
            return self._refusal(f"has {most:.0f} requests at once", 0.0)
        for (bucket, what), amount in zip(self._limits, (requests, tokens), strict=True):
            if wait_s := bucket.wait_s(amount, now):
                return self._refusal(f"has had its {what} per minute", wait_s)
        return None

    def enter(self, tokens: int, now: float) -> None:
        """One more request."""
        for (bucket, _), amount in zip(self._limits, (1, tokens), strict=True):
            bucket.take(amount, now)
        self.requests += 1
        self.tokens += tokens

    def leave(self, tokens: int) -> None:
        """One less."""
        self.requests -= 1
        self.tokens -= tokens

    def _refusal(self, text: str, wait_s: float) -> Refusal:
        return Refusal(Reason.TENANT_LIMIT, f"The tenant {self.name} {text}.", wait_s)


class Accounts:
    """All tenants in the settings; everybody else is one of them."""

    def __init__(self, tenants: Mapping[str, TenantRules], default: str) -> None:
        self._all = {name: Account(name, rules) for name, rules in tenants.items()}
        self._active: dict[str, Account] = {}
        self._default = self._all.setdefault(default, Account(default, TenantRules()))

    def enter(self, account: Account, tokens: int, now: float) -> None:
        """One more request of this tenant."""
        account.enter(tokens, now)
        self._active[account.name] = account

    def leave(self, account: Account, tokens: int) -> None:
        """One less."""
        account.leave(tokens)
        if not account.requests:
            self._active.pop(account.name, None)

    def active(self) -> tuple[Account, ...]:
        """Those with something under way."""
        return tuple(self._active.values())

    def of(self, tenant: str) -> Account:
        """The account that these requests are counted on."""
        return self._all.get(tenant, self._default)

    def shares(self, account: Account, queue_s: float) -> Shares:
        """How a queue of so many seconds of work is divided, as it concerns this tenant."""
        due = self._due(account, queue_s)
        others = (a for a in self._active.values() if a is not account)
        left_s = sum(max(due[a.name] - a.work.seconds, 0.0) for a in others)
        return Shares(due[account.name], account.work, left_s, alone=len(due) == 1)

    def within_rate(self, account: Account, work_s: float, workers: int, now: float) -> bool:
        """Whether a tenant came with less than its share of what so many workers compute.

        Somebody whose requests come in bursts may be above its share of the queue all the same.
        """
        due = self._due(account, workers * MEMORY_S)
        return len(due) > 1 and account.asked.amount(now) + work_s <= due[account.name]

    def within_tokens(self, account: Account, tokens: int) -> bool:
        """Whether this tenant's part of the KV under way is within its share.

        It is not where nobody else has any. `tokens` of it are of the request in question, which
        may be counted already.
        """
        total = sum(a.tokens for a in self._active.values())
        due = self._due(account, total)
        alone = len(due) == 1
        return not alone and (account.tokens <= tokens or account.tokens <= due[account.name])

    def _due(self, account: Account, whole: float) -> dict[str, float]:
        """By tenant with something under way, and this one."""
        active = {a.name: a.rules.weight for a in self._active.values()}
        active[account.name] = account.rules.weight
        each = whole / sum(active.values())
        return {name: weight * each for name, weight in active.items()}
