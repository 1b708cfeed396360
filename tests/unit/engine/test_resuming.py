"""Which answers may go on after tokens of another engine, and what tells the engine of them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baton.errors import BatonError, Reason
from engine.resuming import RESUMED_KEY, check_resumed, resumed_in
from tests.fakes.engine import FACTS

KNOWN = replace(FACTS, vocabulary=100, max_model_len_tokens=20)


def request(prompt: list[int] | None = None, **params: Any) -> SimpleNamespace:
    """A request as far as it is looked at."""
    values = {
        "structured_outputs": None,
        "seed": None,
        "temperature": 1.0,
        "max_tokens": 10,
        "eos_token_id": 2,
        "stop_token_ids": [3],
    }
    sampling = SimpleNamespace(**{**values, **params})
    return SimpleNamespace(prompt_token_ids=prompt or [7, 8, 9], sampling_params=sampling)


@pytest.mark.parametrize("resumed", [[0], [99], [2, 3, 4], [5] * 9])
def test_a_plain_answer_goes_on(resumed: list[int]) -> None:
    check_resumed(request(), resumed, KNOWN)


@pytest.mark.parametrize(
    ("asked", "resumed"),
    [
        (request(), [4, 100]),
        (request(), [2**32 - 1]),
        (request(), [5] * 10),
        (request(max_tokens=1), [5]),
        (request([7] * 16), [5] * 4),
        (request(max_tokens=None), [5] * 17),
        (request(), [4, 2]),
        (request(), [4, 3]),
    ],
)
def test_what_cannot_be_is_an_invalid_request(asked: SimpleNamespace, resumed: list[int]) -> None:
    with pytest.raises(BatonError) as caught:
        check_resumed(asked, resumed, KNOWN)
    assert caught.value.reason is Reason.INVALID_REQUEST


def embeds() -> SimpleNamespace:
    asked = request()
    asked.prompt_token_ids = None
    return asked


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        (request(seed=1), "seed"),
        (request(structured_outputs=object()), "structured_outputs"),
        (embeds(), "prompt_embeds"),
    ],
)
def test_what_cannot_be_restored_is_unsupported_by_name(asked: SimpleNamespace, field: str) -> None:
    with pytest.raises(BatonError, match=field) as caught:
        check_resumed(asked, [5], KNOWN)
    assert caught.value.reason is Reason.UNSUPPORTED


def test_a_seed_that_nothing_is_drawn_with_is_of_no_account() -> None:
    check_resumed(request(seed=1, temperature=0.0), [5], KNOWN)
    check_resumed(request(stop_token_ids=None, eos_token_id=None), [2], KNOWN)


def test_an_engine_that_does_not_know_its_vocabulary_takes_any_token() -> None:
    check_resumed(request(), [10**6], FACTS)


@given(
    st.integers(1, 30), st.lists(st.integers(0, 120), min_size=1, max_size=30), st.integers(1, 30)
)
def test_nothing_passes_that_leaves_no_room_for_a_token(
    prompt: int, resumed: list[int], max_tokens: int
) -> None:
    with suppress(BatonError):
        check_resumed(request([7] * prompt, max_tokens=max_tokens), resumed, KNOWN)
        assert len(resumed) < max_tokens
        assert prompt + len(resumed) < KNOWN.max_model_len_tokens
        assert max(resumed) < KNOWN.vocabulary


def test_the_engine_reads_a_list_of_its_own() -> None:
    extra = {RESUMED_KEY: [1, 2]}
    params = SimpleNamespace(extra_args=extra)
    resumed_in(params).append(3)
    assert resumed_in(params) == [1, 2]
    for without in (None, SimpleNamespace(extra_args=None), SimpleNamespace(extra_args={})):
        assert resumed_in(without) == []
