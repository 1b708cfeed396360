"""KV that is written while prefill computes gives the answers of one engine, and comes back."""

from __future__ import annotations

import asyncio
import time

import pytest

from baton.wire import worker_pb2 as wire
from benchmarks.engines import ClusterOfTwo, kill
from benchmarks.legs import NUMBERS, PushPair, encoded
from benchmarks.oracle import Verdict, judge, score
from tests.engine.conftest import Asked, Reference
from tests.engine.prompts import prompt
from tests.engine.test_handoff import ask


async def test_prefill_and_decode_answer_as_one_engine(
    pair: PushPair, reference: Reference
) -> None:
    asked = reference.varied
    found = score(zip(asked.answers, await ask(pair, asked), strict=True))
    print(f"{found.answers} answers, {found.tokens} tokens, {len(found.ties)} ties")
    assert found.same, found


async def test_cached_prefixes_change_nothing(pair: PushPair, reference: Reference) -> None:
    few = slice(10, 20)
    asked = Asked(reference.varied.questions[few], reference.varied.answers[few])
    for _ in range(2):
        assert score(zip(asked.answers, await ask(pair, asked), strict=True)).same


@pytest.mark.parametrize("gap_s", [0.6, -0.6])
async def test_either_leg_may_come_first(
    pair: PushPair, reference: Reference, gap_s: float
) -> None:
    question, answer = reference.long.questions[1], reference.long.answers[1]
    legs = await pair.both(question.prompt, question.max_tokens, f"gap {gap_s}", gap_s)
    assert judge(answer, await legs.decode.tokens()) is not Verdict.WRONG


async def _check_service(pair: PushPair, reference: Reference, salt: str) -> None:
    question, answer = reference.long.questions[0], reference.long.answers[0]
    tokens = await pair.run(question.prompt, question.max_tokens, salt)
    assert judge(answer, tokens) is not Verdict.WRONG
    await pair.until_empty()


@pytest.mark.parametrize("after_s", [0.0, 0.3, 1.0])
async def test_both_legs_aborted(pair: PushPair, reference: Reference, after_s: float) -> None:
    legs = await pair.both(prompt(6000, 910), 8, f"abort after {after_s}")
    await asyncio.sleep(after_s)
    await pair.prefill.abort(legs.prefill)
    await pair.decode.abort(legs.decode)
    await pair.until_empty()
    await _check_service(pair, reference, f"both aborted after {after_s}")


async def test_only_prefill_aborted(pair: PushPair, reference: Reference) -> None:
    """The decode leg learns that nothing more comes, and computes the prompt itself."""
    question, answer = reference.long.questions[7], reference.long.answers[7]
    legs = await pair.both(question.prompt, question.max_tokens, "prefill aborted")
    await pair.prefill.abort(legs.prefill)
    assert judge(answer, await legs.decode.tokens()) is not Verdict.WRONG
    await _check_service(pair, reference, "prefill aborted")


async def test_only_decode_aborted(pair: PushPair, reference: Reference) -> None:
    legs = await pair.both(prompt(3000, 912), 8, "decode aborted")
    await asyncio.sleep(0.5)
    await pair.decode.abort(legs.decode)
    await pair.prefill.until_idle(30)
    await _check_service(pair, reference, "decode aborted")


async def test_a_prefill_leg_whose_decode_never_comes(pair: PushPair, reference: Reference) -> None:
    tokens = prompt(500, 913)
    payload = encoded(tokens, 4, "alone")
    await pair.leg(wire.LEG_PREFILL, tokens, payload, f"r{next(NUMBERS)}")
    await pair.until_empty()
    await _check_service(pair, reference, "prefill alone")


async def test_a_peer_that_nobody_can_reach(pair: PushPair, reference: Reference) -> None:
    question, answer = reference.long.questions[2], reference.long.answers[2]
    leg = await pair.decode.submit(
        wire.Submit(
            leg_id=f"r{next(NUMBERS)}.0.d",
            kind=wire.LEG_DECODE,
            request=encoded(question.prompt, question.max_tokens, "nobody"),
            ticket=wire.Ticket(ticket_id="nobody", epoch=0, deadline_s=30, peer=b"nonsense"),
            prompt_tokens=len(question.prompt),
        )
    )
    assert judge(answer, await leg.tokens()) is not Verdict.WRONG
    await _check_service(pair, reference, "nobody")


async def test_a_decode_leg_whose_prefill_never_comes(pair: PushPair, reference: Reference) -> None:
    """It gives prefill the time that the settings say, holding no block, and computes itself."""
    question, answer = reference.long.questions[3], reference.long.answers[3]
    payload = encoded(question.prompt, question.max_tokens, "decode alone")
    leg = await pair.leg(wire.LEG_DECODE, question.prompt, payload, f"r{next(NUMBERS)}")
    await asyncio.sleep(1.0)
    assert (await pair.decode.report()).load.kv_used == 0
    assert judge(answer, await leg.tokens()) is not Verdict.WRONG
    await pair.until_empty()


async def test_either_worker_takes_either_role(pair: PushPair, reference: Reference) -> None:
    few = slice(0, 4)
    asked = Asked(reference.long.questions[few], reference.long.answers[few])
    pair.turn_round()
    assert score(zip(asked.answers, await ask(pair, asked), strict=True)).same
    pair.turn_round()
    assert score(zip(asked.answers, await ask(pair, asked), strict=True)).same


async def test_prefill_is_killed_under_a_transfer(pair: PushPair, cluster: ClusterOfTwo) -> None:
    """Its death is proof that no write is left: the decode leg computes the prompt itself.

    The last test of this folder: the cluster has no prefill worker afterwards.
    """
    legs = await pair.both(prompt(6000, 915), 8, "killed")
    await asyncio.sleep(1.0)
    killed = time.monotonic()
    kill(cluster.prefill.info.engine_pid)
    tokens = await legs.decode.tokens()
    print(f"answered {time.monotonic() - killed:.2f} s after the kill")
    await pair.until_block_free(pair.decode)
    assert tokens == await pair.solo(prompt(6000, 915), 8, "after the kill")
