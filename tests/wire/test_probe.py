"""Routers ask before they send, and the worker's word is final."""

from __future__ import annotations

from collections.abc import AsyncIterator
from math import inf, nan
from typing import Any

import pytest
import pytest_asyncio

from baton.errors import Reason
from baton.wire import worker_pb2 as wire
from engine.backlog import HOLD_MAX_S
from engine.ports import StepStats
from tests.fakes.engine import FACTS, last, token
from tests.fakes.worker import decode, prefill, solo
from tests.wire.served import Served, until

BLOCK = FACTS.block_size_tokens
PROMPT = 500
HELD = (11, 12, 13)


@pytest_asyncio.fixture
async def served() -> AsyncIterator[Served]:
    """A worker that holds three blocks."""
    served = Served()
    await served.start()
    served.engine.emit(stats=StepStats(0.5, stored=HELD))
    await until(lambda: len(served.worker.outlook.holdings) == 3)
    yield served
    await served.stop()


def probe(leg_id: str = "a", hold_s: float = 0.5, **changes: Any) -> wire.Probe:
    return wire.Probe(**{"prompt_tokens": PROMPT, **changes}, leg_id=leg_id, hold_s=hold_s)


def price(served: Served, new: int = PROMPT, cached: int = 0) -> float:
    return served.worker.outlook.learning.curve.seconds(new, cached)


async def test_an_idle_worker_answers_at_once(served: Served) -> None:
    router = await served.link()
    await router.send(probe=probe(blocks=[*HELD, 99]))
    answer = await router.answer()
    cached = 3 * BLOCK
    assert (answer.leg_id, answer.queue_s, answer.refused) == ("a", 0.0, "")
    assert answer.cached_tokens == cached
    assert answer.ttft_s == pytest.approx(price(served, PROMPT - cached, cached))


@pytest.mark.parametrize(
    ("blocks", "prompt_tokens", "cached"),
    [
        ([], PROMPT, 0),
        ([99, 12], PROMPT, 0),
        (HELD[:2], 2 * BLOCK, BLOCK),
        (HELD[:2], 2 * BLOCK + 1, 2 * BLOCK),
        (HELD, 5, 0),
        (HELD, 0, 0),
    ],
)
async def test_the_last_block_of_a_cached_prompt_is_computed_again(
    served: Served, blocks: list[int], prompt_tokens: int, cached: int
) -> None:
    router = await served.link()
    await router.send(probe=probe(blocks=blocks, prompt_tokens=prompt_tokens))
    assert (await router.answer()).cached_tokens == cached


async def test_a_place_counts_for_others_until_it_is_taken_or_left(served: Served) -> None:
    one, two = await served.link("r1"), await served.link("r2")
    for _ in range(2):
        await one.send(probe=probe())
        assert (await one.answer()).queue_s == 0.0
    await two.send(probe=probe("b"))
    assert (await two.answer()).queue_s == pytest.approx(price(served))
    assert served.worker.load().queue_s == pytest.approx(2 * price(served))
    await one.send(submit=solo("a", prompt_tokens=PROMPT))
    await served.until(legs=1)
    await two.send(abort=wire.Abort(leg_ids=["b", "a"]))
    await until(lambda: served.worker.load().queue_s == pytest.approx(price(served)))
    assert served.worker.legs == 1
    served.engine.emit(token("a"))
    assert (await one.news()).load.queue_s == 0.0


async def test_a_place_ends_by_itself_and_with_its_router(served: Served) -> None:
    router, other = await served.link("r1"), await served.link("r2")
    await router.send(probe=probe("a", hold_s=inf))
    await router.answer()
    await other.send(probe=probe("b", hold_s=0.1))
    await other.answer()
    served.clock.advance(0.1)
    assert served.worker.load().queue_s == pytest.approx(price(served))
    served.clock.advance(HOLD_MAX_S)
    assert served.worker.load().queue_s == 0.0
    await router.send(probe=probe("c", hold_s=inf))
    await router.answer()
    router.call.cancel()
    await until(lambda: served.worker.load().queue_s == 0.0)


async def test_asking_for_no_place_holds_none(served: Served) -> None:
    router = await served.link()
    await router.send(probe=probe(hold_s=0))
    assert (await router.answer()).ttft_s == pytest.approx(price(served))
    assert served.worker.load().queue_s == 0.0


@pytest.mark.parametrize(
    "nonsense",
    [{"hold_s": nan}, {"hold_s": -1.0}, {"blocks": [1] * 1000}],
)
async def test_nonsense_is_counted_and_not_answered(
    served: Served, nonsense: dict[str, Any]
) -> None:
    router = await served.link()
    await router.send(probe=probe("odd", **nonsense))
    await router.send(probe=probe("b"))
    assert (await router.answer()).leg_id == "b"
    assert served.worker.outlook.ignored == 1


async def test_a_worker_that_would_refuse_says_why_and_holds_no_place(served: Served) -> None:
    router = await served.link()
    await router.send(probe=probe(prompt_tokens=FACTS.max_model_len_tokens + 1))
    assert (await router.answer()).refused == Reason.PROMPT_TOO_LONG.value
    for number in range(4):
        await router.send(submit=solo(f"l{number}"))
    await router.send(probe=probe("l0"))
    assert (await router.answer()).refused == Reason.DUPLICATE_ID.value
    await router.send(probe=probe("a"))
    assert (await router.answer()).refused == Reason.WORKER_FULL.value
    await router.send(abort=wire.Abort(leg_ids=[f"l{number}" for number in range(4)]))
    await served.until(legs=0)
    await served.worker.drain(None)
    await router.send(probe=probe("a"))
    assert (await router.answer()).refused == Reason.DRAINING.value
    assert served.worker.load().queue_s == 0.0


# --- the queue ------------------------------------------------------------------------------------


async def test_prompts_that_are_computed_here_are_the_queue(served: Served) -> None:
    router = await served.link()
    submits = [
        solo("s", prompt_tokens=PROMPT),
        prefill("p", prompt_tokens=PROMPT),
        decode("d", prompt_tokens=PROMPT),
    ]
    submits[1].blocks.extend(HELD)
    for submit in submits:
        await router.send(submit=submit)
    await served.until(legs=3)
    first, second = price(served), price(served, PROMPT - 3 * BLOCK, 3 * BLOCK)
    assert served.worker.load().queue_s == pytest.approx(first + second)
    served.clock.advance(first / 4)
    assert served.worker.load().queue_s == pytest.approx(0.75 * first + second)
    served.engine.emit(token("s"))
    assert (await router.news()).load.queue_s == pytest.approx(second)
    served.engine.emit(last("p", kv_params={"blocks": [1]}))
    assert (await router.news()).load.queue_s == 0.0
    await router.send(abort=wire.Abort(leg_ids=["s", "d"]))
    await served.until(legs=0)


async def test_a_leg_with_too_many_keys_is_taken_without_them(served: Served) -> None:
    router = await served.link()
    await router.send(submit=wire.Submit(**{**fields(solo("a")), "blocks": [1] * 1000}))
    await served.until(legs=1)
    assert served.worker.outlook.ignored == 1


def fields(submit: wire.Submit) -> dict[str, Any]:
    return {field.name: value for field, value in submit.ListFields()}


def patient(submit: wire.Submit, queue_max_s: float) -> wire.Submit:
    submit.queue_max_s = queue_max_s
    return submit


async def test_a_queue_that_is_too_long_refuses_and_says_how_long(served: Served) -> None:
    router = await served.link()
    await router.send(submit=solo("a", prompt_tokens=PROMPT))
    await router.send(submit=patient(solo("b"), price(served) / 4))
    (ended,) = (await router.news()).ended
    assert (ended.leg_id, ended.reason) == ("b", Reason.WORKER_FULL.value)
    assert f"{price(served):.3g} s" in ended.message
    assert ended.retry_after_s == pytest.approx(price(served) * 3 / 4)
    await router.send(submit=patient(decode("d"), price(served) / 4))
    await router.send(submit=patient(solo("c"), price(served) * 2))
    await served.until(legs=3)
    assert served.worker.tally.refused == 1


async def test_ones_own_place_is_not_in_the_way_and_anothers_is(served: Served) -> None:
    one, two = await served.link("r1"), await served.link("r2")
    await one.send(probe=probe("a"))
    await one.answer()
    await two.send(submit=patient(solo("b", prompt_tokens=PROMPT), price(served) / 2))
    (ended,) = (await two.news()).ended
    assert ended.reason == Reason.WORKER_FULL.value
    await one.send(submit=patient(solo("a", prompt_tokens=PROMPT), price(served) / 2))
    await served.until(legs=1)


@pytest.mark.parametrize("queue_max_s", [nan, -1.0])
async def test_a_bound_that_makes_no_sense_is_none(served: Served, queue_max_s: float) -> None:
    router = await served.link()
    await router.send(submit=solo("a", prompt_tokens=PROMPT))
    await router.send(submit=patient(solo("b"), queue_max_s))
    await served.until(legs=2)
    assert served.worker.outlook.ignored == 1
