"""Limits of a tenant's own, and shares among tenants."""

from __future__ import annotations

import pytest

from baton.errors import Reason
from router.policy.tenants import Account, Accounts, TenantRules, Work


def account(**rules: float) -> Account:
    return Account("t", TenantRules(**rules))


def test_work_is_exactly_nothing_once_all_of_it_has_gone() -> None:
    work = Work()
    for part in (0.1, 0.2, 0.3):
        work.add(part)
    for part in (0.3, 0.1, 0.2):
        work.remove(part)
    assert (work.parts, work.seconds) == (0, 0.0)


def test_a_tenant_without_limits_is_never_refused() -> None:
    one = account()
    for _ in range(1000):
        assert one.limit(1, 10**6, 0.0) is None
        one.enter(10**6, 0.0)


def test_each_limit_refuses_with_its_own_wait() -> None:
    many = account(requests_per_minute=2)
    for _ in range(2):
        many.enter(10, 0.0)
    refusal = many.limit(1, 10, 0.0)
    assert refusal is not None
    assert refusal.reason is Reason.TENANT_LIMIT
    assert refusal.retry_after_s == pytest.approx(30.0)
    assert "2 requests per minute" in refusal.message

    long = account(tokens_per_minute=600)
    long.enter(600, 0.0)
    refusal = long.limit(1, 100, 0.0)
    assert refusal is not None
    assert refusal.retry_after_s == pytest.approx(10.0)
    assert long.limit(1, 100, 10.0) is None

    wide = account(concurrent_requests=2)
    wide.enter(1, 0.0)
    assert wide.limit(1, 1, 0.0) is None
    assert wide.limit(2, 1, 0.0) is not None
    wide.leave(1)
    assert wide.limit(2, 1, 0.0) is None


def test_who_is_not_listed_shares_one_account() -> None:
    accounts = Accounts({"a": TenantRules()}, "default")
    assert accounts.of("x") is accounts.of("y") is accounts.of("default")
    assert accounts.of("a") is not accounts.of("x")
    assert [one.name for one in accounts.all()] == ["a", "default"]


def test_the_default_tenant_may_have_limits() -> None:
    accounts = Accounts({"default": TenantRules(concurrent_requests=1)}, "default")
    accounts.of("x").enter(1, 0.0)
    assert accounts.of("y").limit(1, 1, 0.0) is not None


def test_shares_are_by_weight_among_those_with_something_under_way() -> None:
    rules = {"a": TenantRules(weight=1), "b": TenantRules(weight=3), "idle": TenantRules(weight=9)}
    accounts = Accounts(rules, "default")
    a, b = accounts.of("a"), accounts.of("b")
    assert accounts.alone(a)
    a.enter(100, 0.0)
    a.work.add(8.0)
    assert accounts.alone(a)
    assert not accounts.alone(b)
    assert accounts.share_of_work(a, a) == 8.0
    assert accounts.share_of_work(b, b) == 6.0
    assert accounts.share_of_work(a, b) == 2.0
    assert accounts.share_of_tokens(b) == 75.0
    assert accounts.share_of_tokens(accounts.of("idle")) == 90.0
