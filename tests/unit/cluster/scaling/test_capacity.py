"""Tokens per second of one worker."""

import pytest

from baton.costs import DecodeCurve, PrefillCurve
from cluster.scaling.capacity import decode_tokens_per_s, prefill_tokens_per_s


def test_prefill_counts_what_context_costs():
    curve = PrefillCurve(0.1, 0.001, 0.0)
    assert prefill_tokens_per_s(curve, 900) == pytest.approx(900)
    assert prefill_tokens_per_s(PrefillCurve(0.1, 0.001, 1e-6), 900, 1000) < 900
    assert prefill_tokens_per_s(curve, 0) > 0


CURVE = DecodeCurve(0.010, 0.001, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("kv_tokens", "tpot_s", "running_max", "batch"),
    [(1e9, 0.05, 256, 40), (10_000, 0.05, 256, 10), (1e9, 0.05, 20, 20), (1e9, 0.001, 256, 1)],
)
def test_decode_is_bound_by_promise_memory_or_engine(kv_tokens, tpot_s, running_max, batch):
    found = decode_tokens_per_s(CURVE, 1000, kv_tokens, tpot_s, running_max)
    assert found == pytest.approx(batch / (0.010 + 0.001 * batch))


def test_a_batch_that_costs_nothing_is_bound_by_the_engine():
    assert decode_tokens_per_s(DecodeCurve(0.01, 0, 0, 0, 0), 1, 1e9, 1.0, 64) == 6400
