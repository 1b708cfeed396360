"""Counts come back to zero with the legs, and sums are kept."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.ports import StepStats
from engine.tally import Tally

LIVES = st.lists(st.tuples(st.integers(0, 10_000), st.booleans()), max_size=30)


@given(LIVES)
def test_legs_that_come_and_go_leave_nothing(lives: list[tuple[int, bool]]) -> None:
    tally = Tally()
    for tokens, _ in lives:
        tally.took(tokens)
    assert (tally.waiting, tally.submitted) == (len(lives), len(lives))
    assert tally.queued_prompt_tokens == sum(tokens for tokens, _ in lives)
    for tokens, starts in lives:
        if starts:
            tally.started(tokens)
    assert tally.running == sum(starts for _, starts in lives)
    for tokens, starts in lives:
        tally.left(tokens, starts)
    assert (tally.running, tally.waiting, tally.queued_prompt_tokens) == (0, 0, 0)


@given(st.lists(st.builds(StepStats, st.floats(0, 1), *[st.integers(0, 99)] * 3), max_size=20))
def test_step_statistics_add_up(steps: list[StepStats]) -> None:
    tally = Tally()
    for number, stats in enumerate(steps):
        tally.stepped(stats, number / 10)
    load = tally.load(draining=True)
    assert load.steps == len(steps)
    assert load.kv_used == (steps[-1].kv_used if steps else 0.0)
    assert load.prefix_queried_tokens == sum(s.prefix_queried_tokens for s in steps)
    assert load.prefix_hit_tokens == sum(s.prefix_hit_tokens for s in steps)
    assert load.preemptions == sum(s.preemptions for s in steps)
    assert load.draining


def test_a_step_without_statistics_keeps_the_last_ones() -> None:
    tally = Tally()
    tally.stepped(StepStats(0.5, 1, 1, 1), 0.1)
    tally.stepped(None, 0.2)
    assert (tally.kv_used, tally.steps, tally.step_s) == (0.5, 2, 0.2)


def test_blocks_that_are_left_out_are_a_total_of_the_engines() -> None:
    tally = Tally()
    for left_out in (3, 0, 5):
        tally.stepped(StepStats(0.5, left_out=left_out), 0.1)
    assert tally.left_out_blocks == 5
