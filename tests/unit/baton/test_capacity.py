"""What a worker can do grows with what it is given, and memory or TPOT bounds it."""

from __future__ import annotations

import pytest

from baton.capacity import decode_tokens_per_s, prefill_tokens_per_s
from baton.costs import DecodeCurve, PrefillCurve

CURVE = DecodeCurve(0.02, 0.001, 1e-6, 0.0, 0.0)


def test_a_prompt_takes_its_fixed_part_and_its_tokens() -> None:
    assert prefill_tokens_per_s(PrefillCurve(0.1, 0.001), 900) == pytest.approx(900)
    assert prefill_tokens_per_s(PrefillCurve(0.1, 0.001), 0) == pytest.approx(1 / 0.101)


def test_what_is_cached_costs_attention_only() -> None:
    curve = PrefillCurve(0.0, 0.001, 1e-6)
    assert prefill_tokens_per_s(curve, 100, 1000) < prefill_tokens_per_s(curve, 100)


@pytest.mark.parametrize(
    ("kv_tokens", "tpot_s", "running_max", "batch"),
    [(1e6, 0.04, 256, 10), (5000, 0.04, 256, 5), (1e6, 0.04, 2, 2), (1e6, 0.001, 256, 1)],
)
def test_the_batch_is_as_large_as_tpot_memory_and_the_engine_allow(
    kv_tokens: float, tpot_s: float, running_max: int, batch: int
) -> None:
    found = decode_tokens_per_s(CURVE, 1000, kv_tokens, tpot_s, running_max)
    assert found == pytest.approx(batch / (0.02 + 0.002 * batch))


def test_context_costs_and_an_empty_prompt_does_not_divide_by_zero() -> None:
    assert prefill_tokens_per_s(PrefillCurve(0.1, 0.001, 1e-6), 900, 1000) < 900
    assert prefill_tokens_per_s(PrefillCurve(0.1, 0.001, 0.0), 0) > 0


@pytest.mark.parametrize(
    ("kv_tokens", "tpot_s", "running_max", "batch"),
    [(1e9, 0.05, 256, 40), (10_000, 0.05, 256, 10), (1e9, 0.05, 20, 20), (1e9, 0.001, 256, 1)],
)
def test_the_same_where_context_costs_nothing(
    kv_tokens: float, tpot_s: float, running_max: int, batch: int
) -> None:
    curve = DecodeCurve(0.010, 0.001, 0.0, 0.0, 0.0)
    found = decode_tokens_per_s(curve, 1000, kv_tokens, tpot_s, running_max)
    assert found == pytest.approx(batch / (0.010 + 0.001 * batch))


def test_a_batch_that_costs_nothing_is_bound_by_the_engine() -> None:
    assert decode_tokens_per_s(DecodeCurve(0.01, 0, 0, 0, 0), 1, 1e9, 1.0, 64) == 6400
