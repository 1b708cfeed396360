"""Limits of a tenant's own, and shares among tenants."""

from __future__ import annotations

import pytest

from baton.errors import Reason
from router.policy.tenants import Account, Accounts, TenantRules, Typical, Work


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


def test_the_default_tenant_may_have_limits() -> None:
    accounts = Accounts({"default": TenantRules(concurrent_requests=1)}, "default")
    accounts.enter(accounts.of("x"), 1, 0.0)
    assert accounts.of("y").limit(1, 1, 0.0) is not None


def test_active_are_those_with_something_under_way() -> None:
    accounts = Accounts({"a": TenantRules()}, "default")
    a = accounts.of("a")
    accounts.enter(a, 10, 0.0)
    accounts.enter(a, 10, 0.0)
    accounts.leave(a, 10)
    assert accounts.active() == (a,)
    accounts.leave(a, 10)
    assert accounts.active() == ()


def test_a_queue_is_divided_by_weight_among_those_with_something_under_way() -> None:
    rules = {"a": TenantRules(weight=1), "b": TenantRules(weight=3), "idle": TenantRules(weight=9)}
    accounts = Accounts(rules, "default")
    a, b = accounts.of("a"), accounts.of("b")
    accounts.enter(a, 100, 0.0)
    a.work.add(2.5)
    assert accounts.shares(a, 8.0).alone
    assert not accounts.shares(a, 8.0).within(0.0)
    shares = accounts.shares(b, 8.0)
    assert (shares.due_s, shares.left_by_others_s, shares.alone) == (6.0, 0.0, False)
    accounts.enter(b, 50, 0.0)
    shares = accounts.shares(a, 8.0)
    assert (shares.due_s, shares.left_by_others_s) == (2.0, 6.0)
    assert not shares.within(0.1)
    b.work.add(1.0)
    assert accounts.shares(a, 8.0).left_by_others_s == 5.0
    assert accounts.shares(b, 8.0).within(5.0)
    assert not accounts.shares(b, 8.0).within(5.1)


def test_tokens_are_divided_likewise() -> None:
    accounts = Accounts({"a": TenantRules(), "b": TenantRules()}, "default")
    a, b = accounts.of("a"), accounts.of("b")
    accounts.enter(a, 100, 0.0)
    assert not accounts.within_tokens(a, 100)
    accounts.enter(b, 60, 0.0)
    assert accounts.within_tokens(b, 60)
    assert accounts.within_tokens(a, 100)  # its only request
    accounts.enter(a, 10, 0.0)
    assert not accounts.within_tokens(a, 10)
    accounts.enter(b, 20, 0.0)
    assert accounts.within_tokens(b, 20)


def test_what_is_typical_is_learnt_from_the_first_and_followed() -> None:
    typical = Typical()
    typical.learn(1.0, 2.0, 100)
    assert (typical.work_s, typical.promise_s, typical.tokens) == (1.0, 2.0, 100.0)
    for _ in range(100):
        typical.learn(3.0, 4.0, 300)
    assert typical.work_s == pytest.approx(3.0, abs=0.01)
