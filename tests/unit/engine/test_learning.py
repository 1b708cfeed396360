"""What is learned is what the steps took."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from baton.costs import PrefillCurve
from engine.learning import Learning
from engine.step_work import StepWork
from kv_transfer.report import SECONDS_BOUNDS, Times, TransferReport

PREFILL = PrefillCurve(0.02, 2e-4, 1e-8)
BLOCK = 16


def step(prompts: int = 0, decodes: int = 0, chance: random.Random | None = None) -> StepWork:
    """A step that took exactly what it costs."""
    chance = chance or random.Random(1)
    sizes = [(chance.randrange(10, 4000), chance.randrange(0, 4000)) for _ in range(prompts)]
    kv_tokens = sum(chance.randrange(100, 4000) for _ in range(decodes))
    seconds = sum(PREFILL.seconds(*size) for size in sizes)
    decoding = 1e-4 * decodes + 1e-8 * kv_tokens
    return StepWork(
        prompts=prompts,
        new_tokens=sum(new for new, _ in sizes),
        pairs=sum(new * (cached + new / 2) for new, cached in sizes),
        decodes=decodes,
        kv_tokens=kv_tokens,
        seconds=seconds + decoding + (0.0 if prompts else 0.01),
    )


def taught(*kinds: tuple[int, int], times: int = 300) -> Learning:
    learning, chance = Learning(BLOCK), random.Random(7)
    for number in range(times):
        learning.stepped(step(*kinds[number % len(kinds)], chance))
    return learning


@pytest.mark.parametrize("kinds", [[(1, 0)], [(1, 0), (3, 0)]])
def test_prefill_steps_teach_prefill(kinds: list[tuple[int, int]]) -> None:
    learning = taught(*kinds)
    assert learning.costs.prefill.samples == 300
    assert learning.costs.decode.samples == 0
    assert learning.costs.prefill_s(1000, 500) == pytest.approx(PREFILL.seconds(1000, 500), rel=0.1)
    assert learning.curve.seconds(1000, 500) == learning.costs.prefill_s(1000, 500)


def test_decode_steps_teach_decode() -> None:
    learning = taught((0, 1), (0, 40), (0, 8))
    assert learning.costs.prefill.samples == 0
    assert learning.costs.decode_step_s(20, 40_000) == pytest.approx(0.0124, rel=0.1)


def test_mixed_steps_teach_prefill_once_decoding_is_known() -> None:
    assert taught((2, 8)).costs.prefill.samples == 0
    learning = taught((0, 8), (0, 64), (2, 8), times=600)
    assert learning.costs.decode.samples == 400
    assert 190 < learning.costs.prefill.samples < 200
    assert learning.costs.prefill_s(1000, 500) == pytest.approx(PREFILL.seconds(1000, 500), rel=0.1)


def test_a_mixed_step_that_was_quicker_than_its_decoding_teaches_nothing() -> None:
    learning = taught((0, 8), (0, 64))
    learning.stepped(replace(step(1, 64), seconds=1e-9))
    assert learning.costs.prefill.samples == 0


def test_lessons_count_everything_that_was_learned() -> None:
    learning = Learning(BLOCK)
    learning.stepped(step(1, 0))
    learning.stepped(step(0, 1))
    assert learning.lessons == 2


# --- transfers ------------------------------------------------------------------------------------


def report(prompts: int, exposed_s: float, sent: int) -> TransferReport:
    counts = (prompts, *(0,) * len(SECONDS_BOUNDS))
    return TransferReport(bytes_written=sent, exposed=Times(counts, exposed_s))


def test_transfers_teach_what_a_prompt_waits_for_its_own() -> None:
    learning, chance = Learning(BLOCK), random.Random(3)
    prompts, exposed_s, blocks = 0, 0.0, 0
    for _ in range(200):
        some = chance.randrange(1, 4)
        more = [chance.randrange(1, 400) for _ in range(some)]
        prompts, blocks = prompts + some, blocks + sum(more)
        exposed_s += some * 0.003 + sum(more) * BLOCK * 2e-6
        learning.transferred(report(prompts, exposed_s, blocks * 1000), 1000)
    assert learning.costs.transfer.samples == 200
    assert learning.costs.transfer_s(2000) == pytest.approx(0.007, rel=0.1)


def test_no_change_no_prompt_and_no_size_teach_nothing() -> None:
    learning = Learning(BLOCK)
    learning.transferred(report(1, 0.01, 1000), 0)
    learning.transferred(report(0, 0.0, 500), 1000)
    assert learning.costs.transfer.samples == 0
    learning.transferred(report(1, 0.01, 1000), 1000)
    learning.transferred(report(1, 0.01, 1000), 1000)
    assert learning.costs.transfer.samples == 1


def test_what_is_forgotten_is_learned_anew_and_no_transfer_counts_twice() -> None:
    learning = Learning(BLOCK)
    learning.stepped(step(1, 64))
    learning.transferred(report(1, 9.0, 1000), 1000)
    learning.forget()
    assert learning.lessons == 0
    assert learning.curve.seconds(64, 0) == Learning(BLOCK).curve.seconds(64, 0)
    learning.transferred(report(2, 9.1, 2000), 1000)
    assert learning.costs.transfer.samples == 1
    assert learning.costs.transfer_s(BLOCK) < 0.2
