"""Two engines of two ranks each hand KV over, rank by rank, and answer as one plain engine.

Six processes that compute and wait for each other take minutes on few cores: no part of a run of
the folder, run it by name (`pytest tests/engine_push/tensor_parallel.py`).
"""

from __future__ import annotations

import asyncio
import time

import pytest

from benchmarks import forked

LENGTHS = (3, 300, 700)
pytestmark = [pytest.mark.engine, pytest.mark.timeout(480)]


def test_ranks_hand_over_to_their_equals_and_give_everything_back() -> None:
    received, same, freed_s = forked.call(_hand_over)
    assert same, "not what one engine of one rank answers"
    assert received == len(LENGTHS) + 1, "computed by decode itself"
    print(f"{received} prompts received, blocks of an aborted one free after {freed_s:.2f} s")


def _hand_over() -> tuple[int, bool, float]:
    # Late: these import vLLM, which is there only in the process that this is called in.
    from benchmarks import engines
    from benchmarks.engines import PUSH, SETTINGS, ClusterOfTwo, Setup
    from benchmarks.reference import Question
    from tests.engine.prompts import prompt

    questions = [Question(prompt(n, 800 + n), 8) for n in LENGTHS]
    asked = list(zip(questions, _answers(questions), strict=True))
    ranks = {**SETTINGS["engine"], "tensor_parallel_size": 2, "kv_cache_gib": 0.125}
    patient = {**PUSH, "abort_timeout_s": 60.0, "write_deadline_s": 60.0}
    engines.START_S = 150.0
    cluster = ClusterOfTwo(Setup(patient, {**SETTINGS, "engine": ranks}, forked=True))
    try:
        return asyncio.run(_ask(cluster, asked))
    finally:
        cluster.stop()


def _answers(questions):
    from benchmarks import reference

    ours, theirs = forked.context().Pipe()
    process = forked.context().Process(target=reference._answer, args=(theirs, questions))
    process.start()
    assert ours.poll(reference.ANSWER_S)
    return ours.recv()


async def _ask(cluster, asked) -> tuple[int, bool, float]:
    from benchmarks.legs import PushPair
    from benchmarks.oracle import score
    from tests.engine.prompts import prompt

    async with PushPair(cluster) as pair:
        tokens = [await _one(pair, asked[0][0])]
        tokens += await asyncio.gather(*(_one(pair, question) for question, _ in asked[1:]))
        await pair.until_empty(60)
        legs = await pair.both(prompt(1500, 820), 4, "aborted")
        await asyncio.sleep(0.5)
        aborted = time.monotonic()
        await pair.decode.abort(legs.decode)
        await pair.prefill.abort(legs.prefill)
        await pair.until_empty(60)
        freed_s = time.monotonic() - aborted
        again = await pair.run(asked[1][0].prompt, 8, "after the abort")
        await pair.until_empty(60)
        received = (await pair.decode.report()).transfer.received
    pairs = [(answer, found) for (_, answer), found in zip(asked, tokens, strict=True)]
    found = score([*pairs, (asked[1][1], again)])
    print(f"{found.answers} answers, {found.tokens} tokens, {len(found.ties)} ties", flush=True)
    return received, found.same, freed_s


async def _one(pair, question) -> list[int]:
    began = time.monotonic()
    tokens: list[int] = await pair.run(question.prompt, question.max_tokens)
    print(f"{len(question.prompt)} tokens: {time.monotonic() - began:.2f} s", flush=True)
    return tokens
