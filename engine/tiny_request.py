"""Requests made here, as routers send them: the smallest one, and ones of chosen tokens.

One of the few files that touch vLLM's internals (covered by the engine contract tests).
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from vllm.sampling_params import SamplingParams
from vllm.v1.engine import EngineCoreRequest
from vllm.v1.serial_utils import MsgpackEncoder

from engine.ports import EngineFacts


def tiny_tokens(facts: EngineFacts) -> int:
    """Its length: a block and the token that is computed after it, if the model allows so many."""
    return min(facts.block_size_tokens + 1, facts.max_model_len_tokens - 1)


def tiny_request(facts: EngineFacts, name: str) -> list[bytes]:
    """It asks for one token, and finds in no cache what requests of other names left there."""
    return plain_request(name, [0] * tiny_tokens(facts), 1, name)


def plain_request(
    name: str, tokens: Sequence[int], max_tokens: int, salt: str | None = None
) -> list[bytes]:
    """It asks for exactly so many tokens, greedily. Prefixes are shared within a salt only."""
    request = EngineCoreRequest(
        request_id=name,
        prompt_token_ids=list(tokens),
        mm_features=None,
        sampling_params=SamplingParams(max_tokens=max_tokens, temperature=0.0, ignore_eos=True),
        pooling_params=None,
        arrival_time=time.time(),
        lora_request=None,
        cache_salt=salt,
        data_parallel_rank=None,
    )
    return [bytes(buffer) for buffer in MsgpackEncoder().encode(request)]
