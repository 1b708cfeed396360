"""Apart or whole: more promises kept first, then the sooner answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.policy.division import Division, Forecast, Promise, batch_tpot_s, divide

PROMISE = Promise(2.0, 0.04)


@pytest.mark.parametrize(
    ("apart", "whole", "said"),
    [
        (None, Forecast(9.0, 9.0), Division.WHOLE_ONLY),
        (Forecast(1.0, 0.03), Forecast(0.5, 0.03), Division.WHOLE_SOONER),
        (Forecast(1.0, 0.03), Forecast(0.5, 0.09), Division.APART_KEEPS_TPOT),
        (Forecast(1.0, 0.03), Forecast(0.99, 0.03), Division.APART),
        (Forecast(3.0, 0.03), Forecast(1.0, 0.03), Division.WHOLE_KEEPS),
        (Forecast(1.0, 0.05), Forecast(1.5, 0.03), Division.WHOLE_KEEPS),
        (Forecast(1.0, 0.03), Forecast(3.0, 0.03), Division.APART),
    ],
)
def test_division(apart, whole, said) -> None:
    assert divide(apart, whole, PROMISE) is said


FORECASTS = st.builds(Forecast, st.floats(0, 9), st.floats(0, 0.2))


@given(FORECASTS, FORECASTS)
def test_no_promise_is_broken_that_the_other_way_keeps(apart, whole) -> None:
    def kept(f):
        return (f.ttft_s <= PROMISE.ttft_s) + (f.tpot_s <= PROMISE.tpot_s)

    taken, other = (apart, whole) if divide(apart, whole, PROMISE).apart else (whole, apart)
    assert kept(taken) >= kept(other)


def test_a_prompt_between_steps_costs_the_batch() -> None:
    assert batch_tpot_s(0.02, 1.0, 100, 4) == pytest.approx(0.03)
    assert batch_tpot_s(0.02, 1.0, 1, 4) == pytest.approx(0.27)
