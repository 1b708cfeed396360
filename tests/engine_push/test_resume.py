"""An answer that goes on elsewhere is the answer that nothing interrupted.

Each setting counts what was generated before; the prompts never change, since penalties leave no
way to tell a tie.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import pytest
from vllm.v1.engine import FinishReason

from baton.errors import Reason
from benchmarks.engines import ClusterOfTwo
from benchmarks.legs import LegEndedError, PushPair
from benchmarks.oracle import judge, score
from tests.engine.prompts import prompt
from tests.engine.resuming import MAX_TOKENS, Asking, Heard, still

PROMPTS = (still(10, 3), still(100, 130), still(400, 300))
CUTS = (1, 7, 39)
MIN_TOKENS = 25
CHUNK_TOKENS = 4096
"""As many as vLLM computes in one step unless it is told otherwise."""
Setting: TypeAlias = Callable[[Heard, int], dict[str, Any]]
"""Sampling parameters for an answer that is cut there, given what it is without them."""


def greedy(plain: Heard, cut: int) -> dict[str, Any]:
    return {}


def counted(plain: Heard, cut: int) -> dict[str, Any]:
    return {"frequency_penalty": 1.5, "presence_penalty": 0.5}


def repeated(plain: Heard, cut: int) -> dict[str, Any]:
    return {"repetition_penalty": 1.3}


def at_least(plain: Heard, cut: int) -> dict[str, Any]:
    """What would be generated ends the answer, but only late."""
    return {"stop_token_ids": sorted(set(plain.tokens)), "min_tokens": MIN_TOKENS}


def without(plain: Heard, cut: int) -> dict[str, Any]:
    """The cut goes through a word that must not be."""
    return {"bad_words": [plain.tokens[cut - 1 : cut + 1]]}


SETTINGS: list[Setting] = [greedy, counted, repeated, at_least, without]


@dataclass(frozen=True)
class Case:
    """A prompt, where its answer is cut, with what parameters, and the whole of it."""

    prompt: tuple[int, ...]
    cut: int
    params: dict[str, Any]
    plain: Heard
    whole: Heard

    @property
    def sent(self) -> list[int]:
        return self.whole.tokens[: self.cut]


async def cases(asking: Asking, setting: Setting) -> list[Case]:
    """Every prompt with every cut that its answer has."""
    plain = await asyncio.gather(*map(asking.whole, PROMPTS))
    asked = [
        (tokens, cut, setting(each, cut), each)
        for tokens, each in zip(PROMPTS, plain, strict=True)
        for cut in CUTS
    ]
    wholes = await asyncio.gather(*(asking.whole(p, **params) for p, _, params, _ in asked))
    found = [Case(*each, whole) for each, whole in zip(asked, wholes, strict=True)]
    return [case for case in found if case.cut < len(case.whole.tokens)]


@pytest.fixture
def asking(pair: PushPair, cluster: ClusterOfTwo) -> Asking:
    return Asking(pair, cluster)


@pytest.mark.parametrize("setting", SETTINGS)
async def test_the_rest_is_what_it_would_have_been(asking: Asking, setting: Setting) -> None:
    found = await cases(asking, setting)
    assert {case.cut for case in found} >= {1, 7}
    if setting is not greedy:
        assert any(c.whole.tokens != c.plain.tokens for c in found), "the setting has no effect"
    ways = (asking.solo, asking.pushed)
    asked = [(case, way) for way in ways for case in found]
    rests = await asyncio.gather(*(way(c.prompt, c.sent, **c.params) for c, way in asked))
    compared = list(zip((case for case, _ in asked), rests, strict=True))
    result = score(
        (case.whole.answer(setting is not greedy), [*case.sent, *rest.tokens])
        for case, rest in compared
    )
    print(f"{setting.__name__}: {result.answers} answers, {len(result.ties)} ties")
    assert result.same, result
    for i, (case, rest) in enumerate(compared):
        if i not in result.ties:
            assert rest.end == case.whole.end
            assert rest.logprobs == pytest.approx(case.whole.logprobs[case.cut :], abs=1e-3)


@pytest.mark.parametrize("setting", [counted, at_least, without])
async def test_as_part_of_the_prompt_they_would_change_an_answer(
    asking: Asking, setting: Setting
) -> None:
    """What the test above would miss if these settings did not depend on it."""
    found = [case for case in await cases(asking, setting) if case.cut < MIN_TOKENS]
    joined = await asyncio.gather(
        *(
            asking.whole((*c.prompt, *c.sent), **{**c.params, "max_tokens": MAX_TOKENS - c.cut})
            for c in found
        )
    )
    rests = [case.whole.tokens[case.cut :] for case in found]
    assert [each.tokens for each in joined] != rests


async def test_a_prompt_of_several_chunks(asking: Asking) -> None:
    tokens, cut = prompt(CHUNK_TOKENS + 30, 931), 39
    whole = await asking.whole(tokens, frequency_penalty=0.5)
    rest = await asking.solo(tokens, whole.tokens[:cut], frequency_penalty=0.5)
    assert len(rest.tokens) == MAX_TOKENS - cut
    assert judge(whole.answer(strict=False), [*whole.tokens[:cut], *rest.tokens]) != "wrong"


async def test_max_tokens_counts_them(asking: Asking) -> None:
    whole = await asking.whole(PROMPTS[1])
    rest = await asking.pushed(PROMPTS[1], whole.tokens[:7], max_tokens=9)
    assert len(rest.tokens) == 2
    assert rest.end == (FinishReason.LENGTH, None)


@pytest.mark.parametrize(
    ("resumed", "params", "reason"),
    [
        ([1, 2], {"max_tokens": 2}, Reason.INVALID_REQUEST),
        ([2**32 - 1], {}, Reason.INVALID_REQUEST),
        ([5], {"stop_token_ids": [5]}, Reason.INVALID_REQUEST),
        ([5], {"seed": 1, "temperature": 1.0}, Reason.UNSUPPORTED),
    ],
)
async def test_what_cannot_go_on_is_refused(
    asking: Asking, resumed: list[int], params: dict[str, Any], reason: Reason
) -> None:
    with pytest.raises(LegEndedError) as caught:
        await asking.solo(PROMPTS[0], resumed, **params)
    assert caught.value.ended.reason == reason.value
    assert len((await asking.solo(PROMPTS[0], [5], max_tokens=3)).tokens) == 2
