"""Two workers give the answers of one engine, whatever happens to other requests meanwhile."""

from __future__ import annotations

import asyncio

from vllm.v1.engine import EngineCoreOutput

from baton.wire import worker_pb2 as wire
from benchmarks.legs import NUMBERS, Pair, encoded
from benchmarks.oracle import Answer, Verdict, judge, score
from tests.engine.conftest import Asked, Reference
from tests.engine.prompts import prompt

AT_ONCE = 6


async def ask(pair: Pair, asked: Asked, at_once: int = AT_ONCE) -> list[list[int]]:
    """All questions through both workers, several at a time."""
    gate = asyncio.Semaphore(at_once)

    async def one(index: int) -> list[int]:
        async with gate:
            question = asked.questions[index]
            return await pair.run(question.prompt, question.max_tokens)

    return await asyncio.gather(*map(one, range(len(asked.questions))))


async def test_prefill_and_decode_answer_as_one_engine(pair: Pair, reference: Reference) -> None:
    asked = reference.varied
    assert len(asked.questions) == 40
    found = score(zip(asked.answers, await ask(pair, asked), strict=True))
    print(f"{found.answers} answers, {found.tokens} tokens, {len(found.ties)} ties")
    assert found.same, found


async def test_cached_prefixes_change_nothing(pair: Pair, reference: Reference) -> None:
    few = slice(10, 20)
    asked = Asked(reference.varied.questions[few], reference.varied.answers[few])
    first, again = await ask(pair, asked), await ask(pair, asked)
    assert score(zip(asked.answers, first, strict=True)).same
    assert score(zip(asked.answers, again, strict=True)).same


async def test_a_solo_leg_answers_as_one_engine(pair: Pair, reference: Reference) -> None:
    question, answer = reference.long.questions[0], reference.long.answers[0]
    tokens = await pair.solo(question.prompt, question.max_tokens, salt="solo")
    assert judge(answer, tokens) is not Verdict.WRONG


async def test_the_prefill_legs_token_is_never_delivered(pair: Pair) -> None:
    tokens = await pair.run(prompt(200, 900), 4)
    assert len(tokens) == 4
    assert pair.prefill.outputs == 0
    (leg,) = pair.prefill.legs.values()
    assert leg.events.empty()
    assert leg.prefilled == 1
    (decode,) = pair.decode.legs.values()
    assert decode.prefilled == 1


async def check_service(pair: Pair, reference: Reference, salt: str) -> None:
    """The next request is answered right, and nothing is left."""
    question, answer = reference.long.questions[0], reference.long.answers[0]
    tokens = await pair.run(question.prompt, question.max_tokens, salt)
    assert judge(answer, tokens) is not Verdict.WRONG
    assert (await pair.prefill.until_idle()).legs == 0
    assert (await pair.decode.until_idle()).legs == 0


async def test_an_abort_while_prefill_computes(pair: Pair, reference: Reference) -> None:
    long = prompt(6000, 901)
    leg = await pair.submit_prefill(long, encoded(long, 8, "abort-p"), f"r{next(NUMBERS)}.0.p")
    await asyncio.sleep(0.5)
    assert (await pair.prefill.report()).legs == 1
    await pair.prefill.abort(leg)
    assert (await pair.prefill.until_idle()).aborted >= 1
    await check_service(pair, reference, "after-abort-p")
    assert leg.events.empty()


async def test_an_abort_while_decode_generates(pair: Pair, reference: Reference) -> None:
    short, number = prompt(150, 902), next(NUMBERS)
    payload = encoded(short, 2000, "abort-d")
    prefill = await pair.submit_prefill(short, payload, f"r{number}.0.p")
    handed = (await prefill.next(wire.Prefilled)).handed
    leg = await pair.submit_decode(short, payload, f"r{number}.0.d", handed)
    for _ in range(3):
        await leg.next(EngineCoreOutput)
    await pair.decode.abort(leg)
    assert (await pair.decode.until_idle()).aborted >= 1
    await check_service(pair, reference, "after-abort-d")


async def test_a_fetched_handoff_leaves_no_block_on_prefill(pair: Pair) -> None:
    await pair.run(prompt(700, 903), 2, "blocks")
    # Blocks under a lease count as used until decode has said that it read them.
    async with asyncio.timeout(15):
        while (await pair.prefill.report()).load.kv_used > 0:
            await pair.run(prompt(2, 904), 1, f"blocks-{next(NUMBERS)}")


def test_the_reference_is_not_trivial(reference: Reference) -> None:
    def dull(answer: Answer) -> bool:
        return len(set(answer.tokens)) == 1

    assert sum(map(dull, reference.varied.answers)) < len(reference.varied.answers) / 4
