import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.engine_model.times import EngineTimes

TIMES = EngineTimes(0.018, 0.0068, 2.25e-5, 7.6e-10, 5.2e-7, 4.9e-3, 1.3e-5, 2.2e-3, 2.9e-5, 3e-8)


def test_prefill_by_hand():
    assert TIMES.prefill_s(100) == 0.018
    expected = 0.0068 + 2.25e-5 * 2000 + 7.6e-10 * 2000 * (1000 + 1000) + 5.2e-7 * 1000
    assert TIMES.prefill_s(2000, 1000) == pytest.approx(expected)


@given(st.integers(1, 30_000), st.integers(1, 30_000), st.integers(0, 50_000))
def test_chunks_add_up(first, second, done):
    whole = TIMES.chunk_s(first + second, done)
    assert TIMES.chunk_s(first, done) + TIMES.chunk_s(second, done + first) == pytest.approx(whole)


def test_step_is_the_larger_line_plus_kv():
    assert TIMES.step_s(1, 0) == pytest.approx(4.9e-3 + 1.3e-5)
    assert TIMES.step_s(400, 1_000_000) == pytest.approx(2.2e-3 + 2.9e-5 * 400 + 0.03)


@given(st.integers(1, 400), st.integers(1, 800_000), st.integers(1, 200))
def test_steps_in_a_row_are_steps_one_by_one(batch, kv, steps):
    one_by_one = sum(TIMES.step_s(batch, kv + batch * i) for i in range(steps))
    assert TIMES.steps_s(steps, batch, kv) == pytest.approx(one_by_one)


@given(st.integers(1, 400), st.integers(1, 800_000), st.floats(0, 100))
def test_steps_within_inverts_steps_s(batch, kv, seconds):
    steps = TIMES.steps_within(seconds, batch, kv)
    assert TIMES.steps_s(steps, batch, kv) <= seconds < TIMES.steps_s(steps + 1, batch, kv)


def test_mixed_iterations_pay_the_fixed_part_once():
    assert TIMES.iteration_s(0.1, 0, 0) == pytest.approx(0.1068)
    assert TIMES.iteration_s(0.1, 8, 1000) == pytest.approx(0.1 + TIMES.step_s(8, 1000))
    assert TIMES.iteration_s(0.0001, 1, 10) == 0.018


def test_coefficients_are_checked():
    with pytest.raises(ValueError, match="prefill_token_s"):
        EngineTimes(0, 0, -1, 0, 0, 1, 0, 0, 0, 0)
    with pytest.raises(ValueError, match="take time"):
        EngineTimes(0, 0, 1, 0, 0, 0, 0, 0, 0, 0)
