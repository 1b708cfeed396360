"""The queue in seconds: what waits, less what the first has had, and the places that are held."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baton.costs import PrefillCurve
from engine.backlog import HOLD_MAX_S, RESERVATIONS_MAX, Backlog, Prompt

CURVE = PrefillCurve(fixed_s=0.01, token_s=0.001, pair_s=1e-6)
TEN = Prompt(90, 100)
TEN_S = TEN.seconds(CURVE)
PROMPTS = st.builds(Prompt, st.integers(0, 5000), st.integers(0, 5000))


def test_an_empty_queue_is_no_time() -> None:
    assert Backlog().seconds(CURVE, 5.0) == 0.0


@given(st.lists(PROMPTS, max_size=20))
def test_the_queue_is_the_sum_of_its_prompts(prompts: list[Prompt]) -> None:
    backlog = Backlog()
    for number, prompt in enumerate(prompts):
        backlog.join(str(number), prompt, 1.0)
    total = sum(prompt.seconds(CURVE) for prompt in prompts)
    assert backlog.seconds(CURVE, 1.0) == pytest.approx(total)
    for number in range(len(prompts)):
        backlog.leave(str(number), 1.0)
    assert backlog.seconds(CURVE, 1.0) == 0.0


def test_the_time_of_the_first_is_taken_off_and_no_more_than_its_own() -> None:
    backlog = Backlog()
    backlog.join("a", TEN, 0.0)
    backlog.join("b", TEN, 0.0)
    assert backlog.seconds(CURVE, TEN_S / 2) == pytest.approx(1.5 * TEN_S)
    assert backlog.seconds(CURVE, 100.0) == pytest.approx(TEN_S)
    backlog.leave("a", 100.0)
    assert backlog.seconds(CURVE, 100.0) == pytest.approx(TEN_S)
    assert backlog.seconds(CURVE, 100.0 + TEN_S) == pytest.approx(0.0)


def test_a_leg_that_leaves_from_the_middle_does_not_start_the_first_anew() -> None:
    backlog = Backlog()
    for leg in ("a", "b", "c"):
        backlog.join(leg, TEN, 0.0)
    backlog.leave("b", TEN_S / 2)
    backlog.leave("never", TEN_S / 2)
    assert backlog.seconds(CURVE, TEN_S / 2) == pytest.approx(1.5 * TEN_S)


def test_a_new_price_holds_for_all_that_waits() -> None:
    backlog = Backlog()
    backlog.join("a", TEN, 0.0)
    backlog.hold("r", "b", TEN, 1.0, 0.0)
    dearer = PrefillCurve(*(2 * c for c in CURVE))
    assert backlog.seconds(dearer, 0.0) == pytest.approx(2 * backlog.seconds(CURVE, 0.0))


def test_a_place_is_held_for_its_time() -> None:
    backlog = Backlog()
    backlog.hold("r", "a", TEN, 0.5, 0.0)
    backlog.hold("r", "b", TEN, 0.2, 0.0)
    assert backlog.seconds(CURVE, 0.1) == pytest.approx(2 * TEN_S)
    assert backlog.seconds(CURVE, 0.2) == pytest.approx(TEN_S)
    assert backlog.seconds(CURVE, 0.5) == 0.0
    assert backlog.reservations == 0


def test_no_place_is_held_longer_than_the_bound() -> None:
    backlog = Backlog()
    backlog.hold("r", "a", TEN, float("inf"), 0.0)
    assert backlog.seconds(CURVE, HOLD_MAX_S) == 0.0


def test_a_leg_has_one_place_and_each_owner_its_own() -> None:
    backlog = Backlog()
    for owner in ("r1", "r1", "r2"):
        backlog.hold(owner, "a", TEN, 1.0, 0.0)
    assert backlog.seconds(CURVE, 0.0) == pytest.approx(2 * TEN_S)
    backlog.release("r1", "a")
    backlog.release("r1", "a")
    assert backlog.seconds(CURVE, 0.0) == pytest.approx(TEN_S)
    backlog.forget("r1")
    assert backlog.reservations == 1
    backlog.forget("r2")
    assert backlog.seconds(CURVE, 0.0) == 0.0


def test_places_beyond_the_bound_are_dropped_and_counted() -> None:
    backlog = Backlog()
    for number in range(RESERVATIONS_MAX + 3):
        backlog.hold("r", str(number), TEN, 1.0, 0.0)
    assert (backlog.reservations, backlog.dropped) == (RESERVATIONS_MAX, 3)
    backlog.hold("r", "late", TEN, 1.0, 1.0)
    assert (backlog.reservations, backlog.dropped) == (1, 3)


ACTS = st.lists(
    st.tuples(
        st.sampled_from(["join", "leave", "hold", "release", "forget"]),
        st.integers(0, 4),
        PROMPTS,
        st.floats(0, 1.5),
    ),
    max_size=40,
)


@given(ACTS)
def test_whatever_happens_nothing_is_left_behind(
    acts: list[tuple[str, int, Prompt, float]],
) -> None:
    backlog, now = Backlog(), 0.0
    open_legs: set[str] = set()
    for act, number, prompt, wait_s in acts:
        now += wait_s / 4
        leg = str(number)
        if act == "join" and leg not in open_legs:
            open_legs.add(leg)
            backlog.join(leg, prompt, now)
        elif act == "leave":
            open_legs.discard(leg)
            backlog.leave(leg, now)
        elif act == "hold":
            backlog.hold("r", leg, prompt, wait_s, now)
        elif act == "release":
            backlog.release("r", leg)
        elif act == "forget":
            backlog.forget("r")
        assert backlog.seconds(CURVE, now) >= 0
    for leg in open_legs:
        backlog.leave(leg, now)
    assert backlog.seconds(CURVE, now + 2 * HOLD_MAX_S) == 0.0
    assert backlog.reservations == 0
