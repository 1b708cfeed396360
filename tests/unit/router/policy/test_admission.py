"""Who is let in, whose place is taken, and that nothing is left behind."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baton.errors import Reason
from baton.ids import RequestId
from router.policy.admission import Admission, AdmissionRules, Ahead, Expected, Newcomer
from router.policy.tenants import Accounts, DoorPass, Priority, TenantRules
from router.policy.types import Refusal

PROMISE_S = 2.0
LIMITS = AdmissionRules(shed_at=1.0, shed_low_at=0.5, retry_after_s=1.0)


class House:
    """An admission with tenants of equal weight; `low` and `vip` are named for their priority."""

    def __init__(self, rules: AdmissionRules = LIMITS) -> None:
        tenants = {
            "a": TenantRules(),
            "b": TenantRules(),
            "low": TenantRules(priority=Priority.LOW),
            "vip": TenantRules(priority=Priority.HIGH),
        }
        self.accounts = Accounts(tenants, "default")
        self.admission = Admission(self.accounts, rules)
        self.number = 0

    def ask(
        self, tenant: str, work_s: float = 0.5, wait_s: float = 0.0, *, tokens: int = 100, **more
    ) -> tuple[RequestId, Refusal | None]:
        """One request; if it is refused it has left."""
        self.number += 1
        name = RequestId(f"{tenant}{self.number}")
        assert self.admission.enter(Newcomer(name, tenant, Priority.HIGH, tokens), 0.0) is None
        expected = Expected(wait_s, work_s, 1, PROMISE_S, **more)
        answer = self.admission.weigh(name, expected, 0.0)
        if answer is not None:
            self.admission.left(name, 0.0)
        return name, answer

    def admits(self, tenant: str, work_s: float = 0.5, wait_s: float = 0.0, **more) -> bool:
        return self.ask(tenant, work_s, wait_s, **more)[1] is None

    def has_asked_for_more(self, tenant: str) -> None:
        """Than its share lately, so that its bursts are not put up with."""
        self.accounts.of(tenant).asked.add(1000.0, 0.0)

    def fill(self, tenant: str, requests: int, work_s: float = 0.5) -> list[RequestId]:
        """So many requests that stay in the router."""
        names = []
        for _ in range(requests):
            name, answer = self.ask(tenant, work_s)
            assert answer is None
            names.append(name)
        return names


def test_what_can_be_served_is_let_in() -> None:
    house = House()
    house.fill("a", 4)
    _, refusal = house.ask("a")
    assert refusal is not None
    assert refusal.reason is Reason.QUEUE_FULL
    # Two seconds of work are kept; 1.5 s may wait.
    assert refusal.retry_after_s == 1.0
    _, refusal = house.ask("a", wait_s=3.0)
    assert refusal is not None
    assert refusal.retry_after_s == pytest.approx(3.5)


def test_it_is_let_in_again_once_there_is_room() -> None:
    house = House()
    names = house.fill("a", 4)
    assert not house.admits("a")
    house.admission.sent(names[0])
    house.admission.sent(names[0])
    assert house.admits("a")


def test_what_comes_after_the_prompt_is_part_of_the_promise() -> None:
    house = House()
    assert house.admits("a", 0.5, 1.4, after_s=0.05)
    assert not House().admits("a", 0.5, 1.4, after_s=0.2)


def test_a_prompt_that_cannot_keep_the_promise_is_let_in_unless_it_would_wait() -> None:
    house = House()
    assert house.admits("a", work_s=60.0)
    assert not house.admits("a", work_s=60.0)


def test_an_answer_that_would_come_too_late_for_its_client_is_refused_at_once() -> None:
    house = House()
    new = Newcomer(RequestId("x"), "a", Priority.HIGH, 10, left_s=0.8)
    for wait_s, refused in ((0.2, False), (0.5, True), (0.0, False)):
        assert house.admission.enter(new, 0.0) is None
        answer = house.admission.weigh(new.request_id, Expected(wait_s, 0.5, 1, PROMISE_S), 0.0)
        assert (answer is not None) is refused
        house.admission.left(new.request_id, 0.0)


def test_nobody_is_refused_where_nothing_is_shed() -> None:
    house = House(AdmissionRules(shed_at=0.0))
    for _ in range(100):
        assert house.admits("a", 5.0, 50.0, tpot_s=9.0, tpot_promise_s=0.1, crowded=True)


# --- priorities -----------------------------------------------------------------------------------


def test_low_priority_is_held_back_before_all_is_full() -> None:
    house = House()
    house.fill("a", 3)
    house.fill("low", 1)  # nothing of its own yet: that much is its due
    assert not house.admits("low")
    assert house.admits("vip")


def test_the_header_can_lower_a_priority_but_not_raise_it() -> None:
    house = House()
    house.fill("a", 3)
    new = Newcomer(RequestId("x"), "a", Priority.LOW, 10)
    assert house.admission.enter(new, 0.0) is None
    expected = Expected(0, 0.5, 1, PROMISE_S)
    assert house.admission.weigh(new.request_id, expected, 0.0) is not None
    house.admission.left(new.request_id, 0.0)
    assert house.admits("a")


def test_what_is_kept_of_lower_priority_does_not_stand_before_a_higher_one() -> None:
    house = House()
    house.fill("a", 4)
    for _ in range(4):
        assert house.admits("vip", 0.3)
    assert not house.admits("a")


# --- shares ---------------------------------------------------------------------------------------


def test_what_others_leave_of_their_share_nobody_fills() -> None:
    house = House()
    house.has_asked_for_more("a")
    names = house.fill("a", 4)
    assert house.admits("b")
    for name in names[:2]:
        house.admission.computed(name)
    # 1.5 s of 1.5 s per worker are under way, of which half is due to each.
    assert house.accounts.of("a").work.seconds == 1.0
    assert not house.admits("a")
    assert house.admits("b", 0.2)


def test_an_idle_tenants_share_is_used_by_others() -> None:
    house = House()
    name, _ = house.ask("b")
    house.admission.left(name, 0.0)
    house.fill("a", 4)


def test_above_its_share_a_tenant_is_refused_however_many_others_there_are() -> None:
    house = House()
    house.has_asked_for_more("a")
    house.has_asked_for_more("b")
    house.fill("a", 2)
    house.fill("b", 1)
    assert not house.admits("a")
    assert not house.admits("b", 0.6)


def test_a_burst_of_who_seldom_comes_may_be_above_its_share_of_the_queue() -> None:
    house = House()
    house.has_asked_for_more("a")
    house.fill("a", 2)
    house.fill("b", 1)
    assert not house.admits("a")
    # 1.5 s wait: with it 2.1 s of at most 2.5 s, and b is due only 0.75 s of the queue.
    assert house.admits("b", 0.6)
    assert not house.admits("b", 0.6)


# --- the answer -----------------------------------------------------------------------------------


def test_a_full_batch_refuses_and_says_when_answers_will_have_ended() -> None:
    house = House()
    old, _ = house.ask("a", tokens=400)
    _, refusal = house.ask("a", crowded=True)
    assert refusal is not None
    assert "no room" in refusal.message
    house.admission.left(old, 0.0)
    house.ask("a")
    _, refusal = house.ask("a", crowded=True)
    assert refusal is not None
    # The refused one has left as well: 600 tokens in ten seconds.
    assert refusal.retry_after_s == pytest.approx(10 * 100 / 500)


def test_a_batch_that_would_be_too_slow_refuses_those_above_their_share() -> None:
    house = House()
    slow = {"tpot_s": 0.2, "tpot_promise_s": 0.1}
    house.fill("a", 2)
    assert house.admits("a", tpot_s=0.2)  # nobody promised anything
    assert not house.admits("a", **slow)
    assert house.admits("b", **slow)


# --- before anything is read ----------------------------------------------------------------------


def closed(house: House, tenant: str, wait_s: float, now: float = 0.0) -> bool:
    found = house.admission.knock(tenant, Priority.HIGH, Ahead(wait_s, 1), now)
    if isinstance(found, DoorPass):
        house.admission.give_back(found)
    return isinstance(found, Refusal)


def test_requests_like_those_that_are_refused_need_not_be_read() -> None:
    house = House()
    assert not closed(house, "a", 100.0)  # nothing is known of its requests
    house.fill("a", 1)
    assert not closed(house, "a", 0.9)
    assert closed(house, "a", 1.1)
    assert not closed(house, "b", 100.0)
    house.fill("b", 1, work_s=0.1)
    assert not closed(house, "b", 100.0)  # within its share


def test_who_has_a_pass_counts_until_it_is_given_back() -> None:
    house = House()
    house.fill("a", 1)
    passes = []
    while isinstance(found := house.admission.knock("a", Priority.HIGH, Ahead(0, 1), 0), DoorPass):
        passes.append(found)
    assert len(passes) == 3
    for held in (*passes, *passes):
        house.admission.give_back(held)
    assert house.accounts.of("a").work.seconds == pytest.approx(0.5)
    assert not closed(house, "a", 0.0)


@pytest.mark.parametrize(("work_s", "let_in"), [(1.0, True), (1.1, False)])
def test_who_had_a_pass_is_let_in_unless_it_is_much_longer(work_s: float, let_in: bool) -> None:
    house = House()
    house.fill("a", 4)
    new = Newcomer(RequestId("x"), "a", Priority.HIGH, 10, passed_s=0.5)
    assert house.admission.enter(new, 0.0) is None
    answer = house.admission.weigh(new.request_id, Expected(0, work_s, 1, PROMISE_S), 0.0)
    assert (answer is None) is let_in


def test_a_full_batch_is_remembered_for_a_moment() -> None:
    house = House()
    house.fill("a", 1)
    assert not house.admits("a", crowded=True)
    assert closed(house, "a", 0.0, now=0.05)
    assert not closed(house, "a", 0.0, now=0.2)


# --- errors of prediction -------------------------------------------------------------------------


def test_late_first_tokens_make_the_queue_shorter() -> None:
    house = House()
    for _ in range(200):
        name, _ = house.ask("a", 0.5)
        house.admission.answered(name, 1.0)
        house.admission.answered(name, 9.0)
        house.admission.left(name, 1.0)
    assert house.admission.margin_s == pytest.approx(0.5, abs=0.05)
    assert house.admits("a", 0.5, 0.9)
    assert not House().admits("a", 0.5, 1.6)
    assert not house.admits("a", 0.5, 1.2)


# --- anything -------------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_whatever_happens_nothing_is_left_behind(seed: int) -> None:
    rng, house = random.Random(seed), House()
    inside: list[RequestId] = []
    for step in range(60):
        if inside and rng.random() < 0.5:
            name = rng.choice(inside)
            act = rng.choice(("sent", "computed", "answered", "left"))
            at = (float(step),) if act in ("answered", "left") else ()
            getattr(house.admission, act)(name, *at)
            if act == "left":
                inside.remove(name)
            continue
        tenant = rng.choice(("a", "b", "low", "vip", "nobody"))
        name, answer = house.ask(tenant, rng.random(), rng.random() * 3, crowded=rng.random() < 0.2)
        if answer is None:
            inside.append(name)
    for name in inside:
        house.admission.left(name, 60.0)
        house.admission.left(name, 60.0)
    assert house.accounts.active() == ()
    for tenant in ("a", "b", "low", "vip", "default"):
        account = house.accounts.of(tenant)
        assert (account.requests, account.tokens, account.work.parts) == (0, 0, 0)
        assert account.work.seconds == 0.0
    assert house.admits("a", 0.5, 0.1)


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_within_its_share_nobody_is_ever_refused(seed: int) -> None:
    """The steady tenant has one small request at a time, two others flood."""
    rng, house = random.Random(seed), House()
    for _ in range(80):
        name, answer = house.ask(rng.choice("aaab"), 0.1 + rng.random(), rng.random() * 4)
        if answer is None and rng.random() < 0.5:
            house.admission.sent(name)
        if house.accounts.active() and rng.random() < 0.3:
            crowded = rng.random() < 0.3
            mine, answer = house.ask("default", 0.05, rng.random() * 4, crowded=crowded)
            assert answer is None
            assert not closed(house, "default", 4.0)
            house.admission.left(mine, 0.0)


@pytest.mark.parametrize(("promise_s", "slow"), [(0.1, True), (1.0, False)])
def test_what_is_too_slow_for_one_class_may_do_for_another(promise_s: float, slow: bool) -> None:
    house = House()
    for _ in range(3):
        house.ask("a", work_s=0.01, tpot_s=0.05, tpot_promise_s=promise_s)
    assert not closed(house, "a", 0.1)
    house.ask("b", work_s=0.01, tpot_s=0.2, tpot_promise_s=0.1)
    assert closed(house, "a", 0.1) is slow
