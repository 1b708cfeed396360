"""Tenants: their limits, and what each has under way.

Pure: time comes as readings of one clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from baton.errors import Reason
from router.policy.buckets import MinuteBucket
from router.policy.types import Refusal


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
        self._limits = (
            (MinuteBucket(rules.requests_per_minute), f"{rules.requests_per_minute:.0f} requests"),
            (MinuteBucket(rules.tokens_per_minute), f"{rules.tokens_per_minute:.0f} tokens"),
        )

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
        self._default = self._all.setdefault(default, Account(default, TenantRules()))

    def of(self, tenant: str) -> Account:
        """The account that these requests are counted on."""
        return self._all.get(tenant, self._default)

    def all(self) -> tuple[Account, ...]:
        """In the order of the settings."""
        return tuple(self._all.values())

    def share_of_work(self, account: Account, newcomer: Account) -> float:
        """Seconds of the prompts under way that are this tenant's due beside the newcomer."""
        active = {a.name: a for a in self._all.values() if a.work.parts or a is newcomer}
        return _share(account, active) * sum(a.work.seconds for a in active.values())

    def share_of_tokens(self, account: Account) -> float:
        """Tokens of the requests under way that are this tenant's due."""
        active = {a.name: a for a in self._all.values() if a.requests}
        return _share(account, active) * sum(a.tokens for a in active.values())

    def alone(self, account: Account) -> bool:
        """Whether no other tenant has anything under way."""
        return not any(a.requests for a in self._all.values() if a is not account)


def _share(account: Account, active: Mapping[str, Account]) -> float:
    weights = {name: one.rules.weight for name, one in active.items()}
    weights[account.name] = account.rules.weight
    return account.rules.weight / sum(weights.values())
