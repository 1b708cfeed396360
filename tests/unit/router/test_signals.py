"""The window counts every request once, forgets it in time, and stays small."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baton.ids import RequestId
from baton.settings import Settings, SloSettings
from baton.signals import SAMPLES_MAX
from router.caller import Caller
from router.ports import EngineRequest
from router.signals import PARTS, Signals

SLO = SloSettings(ttft_s=2.0, ttft_s_per_1000_tokens=1.0, tpot_s=0.1, window_s=60.0)
BEGAN = 1000.0
A_WHILE = st.lists(st.floats(0.0, 300.0, allow_nan=False), max_size=60)


def request(name: str = "r", prompt: int = 1000, answer: int = 100) -> EngineRequest:
    return EngineRequest(RequestId(name), (), prompt, answer)


def signals() -> Signals:
    return Signals(Settings(slo=SLO), BEGAN)


def filled(seconds: list[float]) -> Signals:
    one = signals()
    for second in sorted(seconds):
        one.came(request(), BEGAN + second)
    return one


def arriving(one: Signals, now: float) -> tuple[float, float]:
    traffic = one.traffic(now)
    return traffic.prompt_tokens_per_s, traffic.answer_tokens_per_s


def attained(one: Signals, now: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    traffic = one.traffic(now)
    return traffic.ttft, traffic.tpot


def test_a_steady_flow_is_seen_as_it_is() -> None:
    one = filled([second / 2 for second in range(600)])
    assert arriving(one, BEGAN + 300) == pytest.approx((2000, 200), rel=0.02)
    mix = one.traffic(BEGAN + 300).mix
    assert mix is not None
    assert (mix.prompt, mix.answer, mix.new, mix.cached, mix.context) == (1000, 100, 1000, 0, 1050)


def test_a_young_router_divides_by_its_age_but_not_by_less_than_some_seconds() -> None:
    one = filled([0.0, 1.0])
    assert arriving(one, BEGAN + 1)[0] == 2000 / 5
    assert arriving(one, BEGAN + 20)[0] == 2000 / 20


def test_what_is_cached_where_it_goes_is_no_work() -> None:
    one = signals()
    one.planned(RequestId("a"), 200, 800)
    one.came(request("a"), BEGAN)
    one.planned(RequestId("b"), 0, 0)
    one.came(request("b"), BEGAN)
    one.planned(RequestId("old"), 1, 999)
    one.came(request("c"), BEGAN)
    mix = one.traffic(BEGAN).mix
    assert mix is not None
    # Nobody's prefill worker gets b; of c nothing is known.
    assert (mix.prompt, mix.new, mix.cached) == (1000, 600, 400)
    assert arriving(one, BEGAN + 10) == (120, 30)


def test_what_nobody_read_counts_as_the_others() -> None:
    one = filled([0.0])
    one.unread(3, BEGAN)
    assert arriving(one, BEGAN + 10) == (400, 40)
    assert arriving(one, BEGAN + 100) == (0, 0)
    one.unread(1, BEGAN + 100)
    assert arriving(one, BEGAN + 100)[0] == pytest.approx(1000 / 60, rel=0.05)


def test_demand_that_nobody_ever_read_is_demand() -> None:
    one = signals()
    one.unread(1, BEGAN)
    assert min(arriving(one, BEGAN)) > 0
    assert one.traffic(BEGAN).mix is None


def test_what_was_kept_is_forgotten_in_time() -> None:
    one = signals()
    one.first_token(0.5, BEGAN)
    one.answered(2.0, BEGAN + 30)
    assert attained(one, BEGAN + 30) == ((0.5,), (2.0,))
    assert attained(one, BEGAN + 61) == ((), (2.0,))


def test_the_mean_promise_is_that_of_the_classes_that_came() -> None:
    settings = {
        "slo": {**SLO.model_dump(), "classes": {"batch": {"ttft_s": 11.0, "tpot_s": 0.4}}},
        "admission": {"tenants": {"b": {"slo_class": "batch"}}},
    }
    one = Signals(Settings.model_validate(settings), BEGAN)
    one.came(request(), BEGAN)
    mix = one.traffic(BEGAN).mix
    assert mix is not None
    assert (mix.ttft_stretch, mix.tpot_stretch) == (1.0, 1.0)
    one.came(dataclasses.replace(request(), caller=Caller("b")), BEGAN)
    mix = one.traffic(BEGAN).mix
    assert mix is not None
    # Twelve seconds are four times those of everybody else.
    assert (mix.ttft_stretch, mix.tpot_stretch) == (1.6, pytest.approx(1.6))


def test_a_clock_that_jumps_back_loses_nothing() -> None:
    one = filled([50.0])
    one.came(request(), BEGAN + 10)
    assert arriving(one, BEGAN + 50)[0] == 2000 / 50


@given(A_WHILE)
def test_the_window_forgets(seconds: list[float]) -> None:
    one = filled(seconds)
    after = BEGAN + max(seconds, default=0.0) + SLO.window_s + 0.001
    assert arriving(one, after) == (0, 0)


@given(A_WHILE, A_WHILE)
def test_arrivals_at_two_routers_add_up(here: list[float], there: list[float]) -> None:
    now = BEGAN + 300
    parts = [arriving(filled(seconds), now) for seconds in (here, there)]
    added = [sum(part) for part in zip(*parts, strict=True)]
    assert added == pytest.approx(arriving(filled([*here, *there]), now))


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(0, 3)), max_size=200))
def test_memory_is_bounded(steps: list[tuple[float, int]]) -> None:
    one, now = signals(), BEGAN
    for passed_s, kind in steps:
        now += passed_s
        for _ in range(5):
            one.came(request(str(now)), now)
            one.unread(kind, now)
            one.planned(RequestId(str(kind)), 1, 1)
            one.first_token(1.0, now)
            one.answered(1.0, now)
    assert len(one._parts) <= PARTS
    assert max(map(len, attained(one, now))) <= SAMPLES_MAX
