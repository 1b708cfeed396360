"""Online fits: they find the truth, follow it, and survive nonsense."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baton.costs import DECODE, PREFILL, Fit, WorkerCosts, prefill_features, ttft_s

TRUTH = (0.02, 9e-5, 1.2e-9)


def took(new, cached, truth=TRUTH, noise=1.0):
    return sum(c * x for c, x in zip(truth, prefill_features(new, cached), strict=True)) * noise


def taught(fit, count, truth=TRUTH, seed=1, wild=0):
    chance = random.Random(seed)
    for n in range(count):
        new, cached = chance.randrange(16, 20_000), chance.choice((0, 512, 8_000, 60_000))
        noise = chance.uniform(0.97, 1.03) * (20 if wild and n % wild == 0 else 1)
        fit.learn(prefill_features(new, cached), took(new, cached, truth, noise))
    return fit


@pytest.mark.parametrize(("new", "cached"), [(100, 0), (4_000, 30_000), (19_000, 0)])
def test_the_fit_finds_the_truth(new, cached) -> None:
    fit = taught(Fit(PREFILL), 400)
    assert fit.predict(prefill_features(new, cached)) == pytest.approx(took(new, cached), rel=0.1)
    assert fit.relative_error < 0.06


def test_the_fit_follows_a_worker_that_becomes_slower() -> None:
    slower = tuple(2 * c for c in TRUTH)
    fit = taught(taught(Fit(PREFILL), 300), 500, slower)
    assert fit.predict(prefill_features(5_000, 0)) == pytest.approx(took(5_000, 0, slower), rel=0.1)


def test_outliers_do_not_bend_it() -> None:
    fit = taught(Fit(PREFILL), 600, wild=25)
    assert fit.predict(prefill_features(5_000, 0)) == pytest.approx(took(5_000, 0), rel=0.35)


@given(st.lists(st.tuples(st.floats(), st.floats()), max_size=60))
def test_nonsense_never_makes_a_prediction_negative_or_endless(rows) -> None:
    fit = Fit(PREFILL)
    for new, seconds in rows:
        fit.learn((1.0, new, 0.0), min(seconds, 1e9))
    assert 0 <= fit.predict(prefill_features(1_000, 0)) < float("inf")
    assert all(c >= 0 for c in fit.coefficients)


def test_what_cannot_be_is_counted() -> None:
    fit = Fit(PREFILL)
    for seconds in (0.0, -1.0, float("nan"), float("inf")):
        fit.learn(prefill_features(10, 0), seconds)
    assert (fit.ignored, fit.samples) == (4, 0)


def test_the_first_token_waits_for_queue_prefill_and_what_transfer_does_not_hide() -> None:
    assert ttft_s(1.0, 0.5, 0.2, hidden=0.75) == pytest.approx(1.55)
    costs = WorkerCosts()
    assert costs.prefill_s(100, 10) == pytest.approx(costs.curve().seconds(100, 10))
    assert costs.decode_step_s(8, 1e5) > 0 < costs.transfer_s(1000)


@pytest.mark.parametrize("seed", range(3))
def test_a_batch_that_never_changes_does_not_blow_up_the_fit(seed: int) -> None:
    """Two features are then one, and the third is pushed against its bound."""
    chance = random.Random(seed)
    fit = Fit(DECODE)
    for step in range(5000):
        kv_tokens = float(step % 1000 * 10)
        true_s = 0.02 + 1e-7 * kv_tokens
        fit.learn((1.0, 10.0, kv_tokens), true_s * chance.uniform(0.5, 2.0))
    assert fit.predict((1.0, 10.0, 5000.0)) == pytest.approx(0.025, rel=0.3)
    assert max(fit.coefficients) < 1.0
