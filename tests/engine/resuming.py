"""Answers that are cut off and go on elsewhere, over the links of two workers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vllm.sampling_params import SamplingParams
from vllm.v1.engine import EngineCoreOutput, EngineCoreRequest, FinishReason
from vllm.v1.serial_utils import MsgpackEncoder

from baton.wire import worker_pb2 as wire
from benchmarks.engines import ClusterOfTwo
from benchmarks.legs import NUMBERS, Leg, Pair
from benchmarks.oracle import Answer
from tests.engine.prompts import text_tokens

MAX_TOKENS = 40
_LICENSE_TOKENS = 2000
"""So many leading tokens of the text are those of the licence, which never changes."""


def still(start: int, length: int) -> tuple[int, ...]:
    """A prompt that stays the same whatever becomes of this repository's text."""
    assert start + length < _LICENSE_TOKENS
    return text_tokens()[start : start + length]


@dataclass
class Heard:
    """What a router hears of an answer."""

    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    end: tuple[FinishReason | None, int | str | None] = (None, None)

    def answer(self, strict: bool) -> Answer:
        """For the oracle. Logprobs are those before penalties: with them no tie is known."""
        gaps = [math.inf] * len(self.tokens) if strict else self.gaps
        return Answer(tuple(self.tokens), tuple(gaps))


async def heard(leg: Leg) -> Heard:
    """The whole answer of a leg."""
    found = Heard()
    while found.end[0] is None:
        output: EngineCoreOutput = await leg.next(EngineCoreOutput)
        found.tokens += output.new_token_ids
        found.end = output.finish_reason, output.stop_reason
        if output.new_logprobs is not None:
            for sampled, best, second, *_ in output.new_logprobs.logprobs.tolist():
                found.logprobs.append(sampled)
                found.gaps.append(best - second)
    return found


class Asking:
    """A router that sends what it likes."""

    def __init__(self, pair: Pair, cluster: ClusterOfTwo) -> None:
        self._pair = pair
        self._peers = {
            wire.LEG_PREFILL: cluster.decode.info.transfer_endpoint,
            wire.LEG_DECODE: cluster.prefill.info.transfer_endpoint,
        }

    async def whole(self, prompt: Sequence[int], **params: Any) -> Heard:
        """An answer that nothing interrupts, by the worker that others are handed over from."""
        submit = self._submit(wire.LEG_SOLO, _new_id(), prompt, params)
        return await heard(await self._pair.prefill.submit(submit))

    async def solo(self, prompt: Sequence[int], resumed: Sequence[int], **params: Any) -> Heard:
        """The rest of an answer, by the other worker alone."""
        submit = self._submit(wire.LEG_SOLO, _new_id(), prompt, params, resumed)
        return await heard(await self._pair.decode.submit(submit))

    async def pushed(self, prompt: Sequence[int], resumed: Sequence[int], **params: Any) -> Heard:
        """The rest of an answer, by both workers at once."""
        name = _new_id()
        first = self._submit(wire.LEG_PREFILL, name, prompt, params, resumed)
        second = self._submit(wire.LEG_DECODE, name, prompt, params, resumed)
        await self._pair.prefill.submit(first)
        return await heard(await self._pair.decode.submit(second))

    async def pulled(self, prompt: Sequence[int], resumed: Sequence[int], **params: Any) -> Heard:
        """The rest of an answer, by both workers one after the other."""
        name = _new_id()
        first = self._submit(wire.LEG_PREFILL, name, prompt, params, resumed)
        done = await (await self._pair.prefill.submit(first)).next(wire.Prefilled)
        second = self._submit(wire.LEG_DECODE, name, prompt, params, resumed)
        second.ticket.handed = done.handed
        return await heard(await self._pair.decode.submit(second))

    def _submit(
        self,
        kind: wire.LegKind.ValueType,
        name: str,
        prompt: Sequence[int],
        params: Mapping[str, Any],
        resumed: Sequence[int] = (),
    ) -> wire.Submit:
        submit = wire.Submit(
            leg_id=f"{name}.0.{wire.LegKind.Name(kind)}",
            kind=kind,
            request=_encoded(prompt, params, salt=name),
            prompt_tokens=len(prompt) + len(resumed),
            resumed=resumed,
        )
        if kind in self._peers:
            peer = self._peers[kind]
            submit.ticket.CopyFrom(wire.Ticket(ticket_id=name, deadline_s=30, peer=peer))
        return submit


def _new_id() -> str:
    return f"resuming-{next(NUMBERS)}"


def _encoded(prompt: Sequence[int], params: Mapping[str, Any], salt: str) -> list[bytes]:
    """As a router sends it. A salt of its own: nothing is found in a cache."""
    chosen = dict(params)
    words = chosen.pop("bad_words", None)
    sampling = SamplingParams(
        **{"temperature": 0.0, "max_tokens": MAX_TOKENS, "logprobs": 2, **chosen}
    )
    if words is not None:
        # As the front end leaves them once it has the tokeniser.
        sampling._bad_words_token_ids = words
    request = EngineCoreRequest(
        request_id="unused",
        prompt_token_ids=list(prompt),
        mm_features=None,
        sampling_params=sampling,
        pooling_params=None,
        arrival_time=0.0,
        lora_request=None,
        cache_salt=salt,
        data_parallel_rank=None,
    )
    return [bytes(buffer) for buffer in MsgpackEncoder().encode(request)]
