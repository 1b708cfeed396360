"""The oracle: equal, near ties and wrong answers are told apart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.oracle import TIE_GAP_NATS, Answer, Verdict, divergence, judge, score

TOKENS = st.lists(st.integers(0, 5), max_size=12)
CLEAR = Answer((1, 2, 3), (5.0, 5.0, 5.0))


def close_at(position: int, gap: float) -> Answer:
    return Answer((1, 2, 3), tuple(gap if i == position else 5.0 for i in range(3)))


def test_equal_answers_are_equal() -> None:
    assert judge(CLEAR, [1, 2, 3]) is Verdict.EQUAL


def test_a_clear_difference_is_wrong() -> None:
    assert judge(CLEAR, [1, 9, 3]) is Verdict.WRONG


def test_a_near_tie_excuses_the_first_difference_and_all_after_it() -> None:
    assert judge(close_at(1, 0.019), [1, 9, 9]) is Verdict.TIE


def test_a_gap_at_the_bound_excuses_nothing() -> None:
    assert judge(close_at(1, TIE_GAP_NATS), [1, 9, 3]) is Verdict.WRONG


def test_a_near_tie_elsewhere_excuses_nothing() -> None:
    assert judge(close_at(2, 0.001), [1, 9, 3]) is Verdict.WRONG


@pytest.mark.parametrize("tokens", [[], [1, 2], [1, 2, 3, 4]])
def test_another_length_is_wrong_however_close_the_tokens(tokens: list[int]) -> None:
    assert judge(Answer((1, 2, 3), (0.0, 0.0, 0.0)), tokens) is Verdict.WRONG


def test_tokens_and_gaps_belong_together() -> None:
    with pytest.raises(ValueError, match="2 tokens and 1 gaps"):
        Answer((1, 2), (0.5,))


@given(TOKENS, TOKENS)
def test_divergence_is_the_end_of_the_common_prefix(left: list[int], right: list[int]) -> None:
    position = divergence(left, right)
    assert (position is None) == (left == right)
    if position is not None:
        assert left[:position] == right[:position]
        assert left[position : position + 1] != right[position : position + 1]
    assert divergence(right, left) == position


def test_a_score_counts_and_names_what_differs() -> None:
    found = score([(CLEAR, [1, 2, 3]), (close_at(0, 0.0), [7, 7, 7]), (CLEAR, [1, 2, 4])])
    assert (found.answers, found.tokens, found.ties, found.wrong) == (3, 9, (1,), (2,))
    assert not found.same


def test_few_ties_are_the_same_and_many_are_not() -> None:
    long = Answer(tuple(range(101)), (0.0,) * 101)
    assert score([(long, [7, *range(1, 101)])]).same
    assert not score([(close_at(0, 0.0), [7, 2, 3])]).same


def test_nothing_compared_is_no_difference() -> None:
    assert score([]).same
