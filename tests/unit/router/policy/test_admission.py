"""Who is let in, whose place is taken, and that nothing is left behind."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baton.errors import Reason
from baton.ids import RequestId
from router.policy.admission import Admission, AdmissionRules, Expected, Newcomer
from router.policy.tenants import Accounts, Priority, TenantRules
from router.policy.types import Refusal

PROMISE_S = 2.0
LIMITS = AdmissionRules(shed_at=1.0, shed_low_at=0.5, retry_after_s=1.0)


class House:
    """An admission with three tenants of equal weight; `b` is of priority low, `vip` high."""

    def __init__(self, rules: AdmissionRules = LIMITS) -> None:
        tenants = {
            "a": TenantRules(),
            "b": TenantRules(priority=Priority.LOW),
            "c": TenantRules(),
            "vip": TenantRules(priority=Priority.HIGH),
        }
        self.accounts = Accounts(tenants, "default")
        self.admission = Admission(self.accounts, rules)
        self.number = 0

    def ask(
        self, tenant: str, work_s: float = 0.5, wait_s: float = 0.0, *, tokens: int = 100, **more
    ) -> tuple[RequestId, Refusal | list[RequestId]]:
        """One request; if it is refused it has left."""
        self.number += 1
        name = RequestId(f"{tenant}{self.number}")
        assert self.admission.enter(Newcomer(name, tenant, Priority.HIGH, tokens), 0.0) is None
        expected = Expected(wait_s, work_s, 1, PROMISE_S, **more)
        answer = self.admission.weigh(name, expected, 0.0)
        if isinstance(answer, Refusal):
            self.admission.left(name, 0.0)
        return name, answer

    def fill(self, tenant: str, requests: int, work_s: float = 0.5) -> list[RequestId]:
        """So many requests that stay in the router, whatever they find."""
        names = []
        for _ in range(requests):
            name, answer = self.ask(tenant, work_s)
            assert answer == []
            names.append(name)
        return names


def test_what_can_be_served_is_let_in() -> None:
    house = House()
    house.fill("a", 4)
    _, refusal = house.ask("a")
    assert isinstance(refusal, Refusal)
    assert refusal.reason is Reason.QUEUE_FULL
    # Two seconds of work are kept; 1.5 s may wait.
    assert refusal.retry_after_s == 1.0
    _, refusal = house.ask("a", wait_s=3.0)
    assert isinstance(refusal, Refusal)
    assert refusal.retry_after_s == pytest.approx(3.5)


def test_it_is_let_in_again_once_there_is_room() -> None:
    house = House()
    names = house.fill("a", 4)
    assert isinstance(house.ask("a")[1], Refusal)
    house.admission.sent(names[0])
    house.admission.sent(names[0])
    assert house.ask("a")[1] == []


def test_a_prompt_that_cannot_keep_the_promise_is_let_in_unless_it_would_wait() -> None:
    house = House()
    assert house.ask("a", work_s=60.0)[1] == []
    assert isinstance(house.ask("a", work_s=60.0)[1], Refusal)


def test_an_answer_that_would_come_too_late_for_its_client_is_refused_at_once() -> None:
    house = House()
    new = Newcomer(RequestId("x"), "a", Priority.HIGH, 10, left_s=0.8)
    for wait_s, refused in ((0.2, False), (0.5, True), (0.0, False)):
        assert house.admission.enter(new, 0.0) is None
        answer = house.admission.weigh(new.request_id, Expected(wait_s, 0.5, 1, PROMISE_S), 0.0)
        assert isinstance(answer, Refusal) is refused
        house.admission.left(new.request_id, 0.0)


def test_nobody_is_refused_where_nothing_is_shed() -> None:
    house = House(AdmissionRules(shed_at=0.0))
    for _ in range(100):
        assert house.ask("a", 5.0, 50.0, tpot_s=9.0, tpot_promise_s=0.1, crowded=True)[1] == []


def test_low_priority_is_held_back_before_all_is_full() -> None:
    house = House()
    house.fill("a", 2)
    assert isinstance(house.ask("b")[1], list)  # nothing of its own yet: within its share
    assert isinstance(house.ask("b")[1], Refusal)
    assert house.ask("a")[1] == []


def test_the_header_can_lower_a_priority_but_not_raise_it() -> None:
    house = House()
    house.fill("c", 3)
    new = Newcomer(RequestId("x"), "c", Priority.LOW, 10)
    assert house.admission.enter(new, 0.0) is None
    assert isinstance(
        house.admission.weigh(new.request_id, Expected(0, 0.5, 1, PROMISE_S), 0.0), Refusal
    )
    house.admission.left(new.request_id, 0.0)
    assert house.ask("c")[1] == []


def test_a_tenant_within_its_share_takes_the_newest_places_of_one_above() -> None:
    house = House()
    names = house.fill("a", 4)
    _, places = house.ask("c", work_s=0.8)
    assert places == [names[3], names[2]]


def test_what_a_worker_has_is_not_taken_back() -> None:
    house = House()
    for name in house.fill("a", 4):
        house.admission.sent(name)
    assert house.ask("c", wait_s=2.0)[1] == []


def test_above_its_share_a_tenant_is_refused_however_many_others_there_are() -> None:
    house = House()
    house.fill("a", 2)
    house.fill("c", 2)
    assert isinstance(house.ask("a")[1], Refusal)
    assert isinstance(house.ask("c")[1], Refusal)


def test_a_higher_priority_takes_places_without_regard_to_shares() -> None:
    house = House()
    house.fill("vip", 2)
    kept = house.fill("a", 2)
    _, places = house.ask("vip", work_s=1.0)
    assert places == [kept[1], kept[0]]
    assert isinstance(house.ask("a", work_s=3.0)[1], Refusal)


def test_a_full_batch_refuses_and_says_when_answers_will_have_ended() -> None:
    house = House()
    old, _ = house.ask("a", tokens=400)
    crowded = {"crowded": True, "wait_s": 0.0}
    _, refusal = house.ask("a", **crowded)
    assert isinstance(refusal, Refusal)
    assert "no room" in refusal.message
    house.admission.left(old, 0.0)
    house.ask("a")
    _, refusal = house.ask("a", **crowded)
    assert isinstance(refusal, Refusal)
    assert refusal.retry_after_s == pytest.approx(10 * 100 / 500)


def test_a_batch_that_would_be_too_slow_refuses_those_above_their_share() -> None:
    house = House()
    slow = {"tpot_s": 0.2, "tpot_promise_s": 0.1}
    house.fill("a", 2)
    assert house.ask("a", tpot_s=0.2)[1] == []  # nobody promised anything
    assert isinstance(house.ask("a", **slow)[1], Refusal)
    assert isinstance(house.ask("c", **slow)[1], list)


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_whatever_happens_nothing_is_left_behind(seed: int) -> None:
    rng, house = random.Random(seed), House()
    inside: list[RequestId] = []
    for _ in range(60):
        if inside and rng.random() < 0.5:
            name = rng.choice(inside)
            act = rng.choice(("sent", "computed", "left"))
            if act == "left":
                house.admission.left(name, 0.0)
                inside.remove(name)
            else:
                getattr(house.admission, act)(name)
            continue
        tenant = rng.choice(("a", "b", "c", "vip", "nobody"))
        name, answer = house.ask(tenant, rng.random(), rng.random() * 3, crowded=rng.random() < 0.2)
        if not isinstance(answer, Refusal):
            assert set(answer) <= set(inside)
            assert len(set(answer)) == len(answer)
            for displaced in answer:
                house.admission.left(displaced, 0.0)
                inside.remove(displaced)
            inside.append(name)
    for name in inside:
        house.admission.left(name, 0.0)
        house.admission.left(name, 0.0)
    for account in house.accounts.all():
        assert (account.requests, account.tokens, account.work.parts) == (0, 0, 0)
        assert account.work.seconds == 0.0


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_within_its_share_nobody_is_ever_refused(seed: int) -> None:
    """The steady tenant has one small request at a time, two others flood."""
    rng, house = random.Random(seed), House()
    for _ in range(80):
        tenant = rng.choice(("a", "a", "a", "c"))
        name, answer = house.ask(tenant, 0.1 + rng.random(), rng.random() * 4)
        if not isinstance(answer, Refusal) and rng.random() < 0.5:
            house.admission.sent(name)
        if rng.random() < 0.3:
            mine, answer = house.ask("default", 0.05, rng.random() * 4, crowded=rng.random() < 0.3)
            assert not isinstance(answer, Refusal) or house.accounts.alone(
                house.accounts.of("default")
            )
            house.admission.left(mine, 0.0)
