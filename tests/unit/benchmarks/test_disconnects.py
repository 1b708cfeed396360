"""Who leaves when, what counts as that moment, and what counts as good."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import islice

import pytest

from benchmarks.disconnects_plan import (
    CHUNK_TOKENS,
    FREED_TARGET_S,
    FULL,
    PROMPT_TOKENS,
    QUICK,
    Asked,
    Leaving,
    Moment,
    Pool,
    Result,
    Size,
    Took,
    leavings,
    moment_now,
    prompt,
    reached,
)

EMPTY = Pool(at_s=1.0, used=0, requests=(), legs=0, tickets=0, fenced=0)
LEAVING = Leaving(
    number=0,
    moment=Moment.LATER_CHUNK,
    streams=True,
    answers=1,
    clients=1,
    prompt_tokens=2000,
    share=0.5,
    lingers_s=0.0,
)
DECODING = Asked(computed=2001, outputs=1)
WAITING_FOR_KV = Asked(computed=0, outputs=0)


def pool(*requests: Asked) -> Pool:
    return replace(EMPTY, used=8, requests=requests)


def computing(*computed: int) -> Pool:
    """A prefill engine with requests that are so far."""
    return pool(*(Asked(tokens, 0) for tokens in computed))


# -- the plan


def test_the_same_seed_leaves_the_same_way() -> None:
    def first(seed: int) -> list[Leaving]:
        return list(islice(leavings(seed), 60))

    assert first(1) == first(1)
    assert first(1) != first(2)


def test_every_twenty_have_all_moments() -> None:
    plans = list(islice(leavings(7), 200))
    for start in range(0, 200, 20):
        assert {one.moment for one in plans[start : start + 20]} == set(Moment)


def test_all_kinds_of_requests_leave() -> None:
    plans = list(islice(leavings(3), 400))
    assert Counter(one.streams for one in plans) == {True: 200, False: 200}
    assert {one.answers for one in plans} == {1, 2}
    assert all(PROMPT_TOKENS[0] <= one.prompt_tokens <= PROMPT_TOKENS[1] for one in plans)
    assert all(one.clients > 1 for one in plans if one.moment is Moment.QUEUED)


def test_no_two_prompts_begin_alike() -> None:
    prompts = [prompt(number, client, tokens=40) for number in range(50) for client in range(3)]
    assert len({tuple(each[:16]) for each in prompts}) == len(prompts)
    assert prompt(1, 2, tokens=40) == prompt(1, 2, tokens=40)


# -- moments


@pytest.mark.parametrize(
    ("prefill", "decode", "moment"),
    [
        (EMPTY, EMPTY, Moment.ARRIVING),
        (computing(0), EMPTY, Moment.QUEUED),
        (computing(512, 0), pool(WAITING_FOR_KV), Moment.QUEUED),
        (computing(CHUNK_TOKENS), pool(WAITING_FOR_KV), Moment.FIRST_CHUNK),
        (computing(CHUNK_TOKENS + 1), pool(WAITING_FOR_KV), Moment.LATER_CHUNK),
        (EMPTY, pool(WAITING_FOR_KV), Moment.TRANSFER),
        (EMPTY, pool(DECODING), Moment.ANSWERING),
        (computing(512), pool(DECODING, WAITING_FOR_KV), Moment.ANSWERING),
    ],
)
def test_how_far_a_request_is(prefill: Pool, decode: Pool, moment: Moment) -> None:
    assert moment_now(prefill, decode) is moment


@pytest.mark.parametrize(
    ("moment", "prefill", "decode", "has_come"),
    [
        (Moment.QUEUED, computing(0), EMPTY, False),
        (Moment.QUEUED, computing(256, 0), EMPTY, True),
        (Moment.FIRST_CHUNK, computing(0), EMPTY, False),
        (Moment.FIRST_CHUNK, computing(256), EMPTY, True),
        (Moment.LATER_CHUNK, EMPTY, EMPTY, False),
        (Moment.LATER_CHUNK, computing(768), EMPTY, False),
        (Moment.LATER_CHUNK, computing(1024), EMPTY, True),
        (Moment.TRANSFER, computing(2000), pool(WAITING_FOR_KV), False),
        (Moment.TRANSFER, EMPTY, pool(WAITING_FOR_KV), True),
        (Moment.ANSWERING, EMPTY, pool(WAITING_FOR_KV), False),
        (Moment.ANSWERING, EMPTY, pool(DECODING), True),
        (Moment.ARRIVING, EMPTY, EMPTY, True),
    ],
)
def test_when_to_leave(moment: Moment, prefill: Pool, decode: Pool, has_come: bool) -> None:
    assert reached(replace(LEAVING, moment=moment), prefill, decode) is has_come


@pytest.mark.parametrize("what", ["used", "legs", "tickets", "fenced"])
def test_anything_that_is_left_counts(what: str) -> None:
    assert EMPTY.empty
    assert not replace(EMPTY, **{what: 1}).empty
    assert not replace(EMPTY, requests=(DECODING,)).empty


# -- results


def good() -> Result:
    result = Result(Size(most=12, least=6, seconds=1.0), seed=7, chunk_s=0.1, serves=True)
    for number, moment in enumerate(Moment):
        result.book(LEAVING, moment, Took(0.1 + number / 100, 0.05, 0.08))
    return result


def test_the_line_says_what_is_asked_for() -> None:
    line = good().line(12.34)
    wanted = {
        "disconnects": 6,
        "freed_ms_p50": 120.0,
        "freed_ms_p99": 150.0,
        "freed_ms_max": 150.0,
        "blocks_ms_max": 50.0,
        "beyond_step_ms_max": 70.0,
        "left_blocks": 0,
        "clients": 6,
        "streaming": 6,
        "two_answers": 0,
        "ok": True,
    }
    assert wanted.items() <= line.items()
    assert set(line["phases"]) == set(Moment)
    assert line["phases"]["queued"] == {
        "disconnects": 1,
        "freed_ms_p50": 110.0,
        "freed_ms_p99": 110.0,
        "freed_ms_max": 110.0,
    }


def test_one_that_is_freed_late_is_a_failure() -> None:
    result = good()
    result.book(LEAVING, Moment.QUEUED, Took(FREED_TARGET_S, 0.1, 0.0))
    assert result.is_good()
    result.book(LEAVING, Moment.QUEUED, Took(FREED_TARGET_S + 0.001, 0.1, 0.0))
    assert not result.is_good()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda r: setattr(r, "left_blocks", 1),
        lambda r: setattr(r, "serves", False),
        lambda r: r.broken.append("TimeoutError"),
        lambda r: r.left.append("process 12"),
        lambda r: r.counts.update(late=1),
        lambda r: r.freed_s.pop(Moment.TRANSFER),
        lambda r: setattr(r, "size", Size(most=12, least=7, seconds=1.0)),
    ],
)
def test_one_failure_is_enough(spoil) -> None:
    result = good()
    assert result.is_good()
    spoil(result)
    assert not result.is_good()
    assert result.line(1.0)["ok"] is False


def test_nothing_at_all_is_a_failure() -> None:
    line = Result(QUICK, seed=1).line(1.0)
    assert line["disconnects"] == 0
    assert not line["ok"]


def test_sizes() -> None:
    assert FULL.most == FULL.least == 1000
    assert QUICK.least < QUICK.most
