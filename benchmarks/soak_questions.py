"""The few questions of a soak, and what one engine answers when nothing goes wrong."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from tokenizers import Tokenizer
from vllm.sampling_params import SamplingParams
from vllm.v1.engine import EngineCoreOutput, EngineCoreRequest
from vllm.v1.serial_utils import MsgpackEncoder

from baton.wire import worker_pb2 as wire
from benchmarks.legs import NUMBERS, Leg, WorkerLink
from benchmarks.oracle import TIE_GAP_NATS, Answer
from benchmarks.reference import Question
from deploy.model import DEMO_MODEL

LENGTHS = (1, 20, 31, 32, 33, 64, 65, 97, 150, 200, 260, 330)
LONG_TOKENS = 600
_TEXT = (
    "import os\n\n\nclass Reader:\n    '''Reads lines.'''\n\n    def read(self, path):\n        "
)


@dataclass(frozen=True, slots=True)
class Known:
    """A question with the answer of an engine that computed all of it alone."""

    question: Question
    answer: Answer


def questions(count_long: int) -> list[Question]:
    """Short ones of all lengths around a block's edge, then long ones for trials."""
    short = [Question(_prompt(n, i), 4 + 3 * (i % 5)) for i, n in enumerate(LENGTHS)]
    return short + [Question(_prompt(LONG_TOKENS, 90 + i), 16) for i in range(count_long)]


@cache
def _tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(DEMO_MODEL / "tokenizer.json"))


def _prompt(length: int, seed: int) -> tuple[int, ...]:
    """Words of some code in an order of their own: greedy answers of such text vary."""
    words = _TEXT.split(" ")
    chance = random.Random(seed)
    text = " ".join(chance.choice(words) for _ in range(length * 2 + 20))
    return tuple(_tokenizer().encode(text).ids[:length])


async def known(link: WorkerLink, asked: Sequence[Question]) -> list[Known]:
    """Ask one worker to compute each alone, one after the other as a single user would."""
    return [Known(question, await _alone(link, question)) for question in asked]


async def _alone(link: WorkerLink, question: Question) -> Answer:
    leg = await link.submit(
        wire.Submit(
            leg_id=f"known{next(NUMBERS)}.0.s",
            kind=wire.LEG_SOLO,
            request=_with_logprobs(question),
            prompt_tokens=len(question.prompt),
        )
    )
    async with asyncio.timeout(30):
        return await _answer(leg)


async def _answer(leg: Leg) -> Answer:
    tokens: list[int] = []
    gaps: list[float] = []
    while True:
        output: Any = await leg.next(EngineCoreOutput)
        tokens += output.new_token_ids
        # The first column is the sampled token's, the others are the best ones.
        gaps += [float(row[1] - row[2]) for row in output.new_logprobs.logprobs]
        if output.finish_reason is not None:
            return Answer(tuple(tokens), tuple(gaps))


def _with_logprobs(question: Question) -> list[bytes]:
    params = SamplingParams(
        temperature=0.0, max_tokens=question.max_tokens, ignore_eos=True, logprobs=2
    )
    request = EngineCoreRequest(
        request_id="unused",
        prompt_token_ids=list(question.prompt),
        mm_features=None,
        sampling_params=params,
        pooling_params=None,
        arrival_time=0.0,
        lora_request=None,
        cache_salt=f"known {next(NUMBERS)}",
        data_parallel_rank=None,
    )
    return [bytes(buffer) for buffer in MsgpackEncoder().encode(request)]


def near_ties(found: Sequence[Known]) -> int:
    """Tokens of the answers that another batch may change."""
    return sum(gap < TIE_GAP_NATS for one in found for gap in one.answer.gaps)
