"""Requests through a pair of engines, each handed over in a way of its own, with their times."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vllm.v1.engine import EngineCoreOutput

from baton.wire import worker_pb2 as wire
from benchmarks.engines import ClusterOfTwo
from benchmarks.handoff_budget import Budget, turns
from benchmarks.legs import NUMBERS, Leg, Pair, encoded

_HEADS = 4000
Runs = dict[str, dict[int, list["Seen"]]]
"""By way and prompt length in tokens."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One request, in seconds."""

    prefill_s: float
    exposed_s: float
    """From prefill's end, as the client hears of it, to decode's first token."""
    total_s: float
    """Until the last token."""

    @property
    def first_token_s(self) -> float:
        """From the request to decode's first token."""
        return self.prefill_s + self.exposed_s


class HandingPair(Pair):
    """Both links of one router, for all ways of `ways`.

    `patience_s`: how long a leg may say nothing before its request fails with TimeoutError.
    """

    def __init__(self, cluster: ClusterOfTwo, patience_s: float = 60) -> None:
        super().__init__(cluster)
        self._patience_s = patience_s
        self._pushing_prefill: dict[str, Any] = {}
        self.doing = "nothing"
        """The request that was sent last, for whoever has to say what failed."""

    async def prepare(self, ways: Sequence[str], length: int) -> None:
        """The first handoff of each way also connects the engines."""
        if "push" in ways:
            await self._learn_who_pushes(fresh_prompt(length))
        for way in ways:
            await self.hand(way, fresh_prompt(length))

    async def hand(self, way: str, prompt: Sequence[int], tokens: int = 1) -> Seen:
        """One request. A pull's decode leg needs prefill's word, the others leave at once."""
        self.doing = f"{way} of {len(prompt)} tokens"
        payload, ticket = encoded(prompt, tokens), f"{way}-{next(NUMBERS)}"
        started = time.perf_counter()
        prefill = await self.leg(wire.LEG_PREFILL, prompt, payload, ticket)
        decode = None
        if way != "pull":
            known = self._word_before_the_end(ticket) if way == "push" else b""
            decode = await self.leg(wire.LEG_DECODE, prompt, payload, ticket, known)
        handed = (await prefill.next(wire.Prefilled, self._patience_s)).handed
        prefilled = time.perf_counter()
        if decode is None:
            decode = await self.leg(wire.LEG_DECODE, prompt, payload, ticket, handed)
        first = await self._to_the_end(decode)
        return Seen(prefilled - started, first - prefilled, time.perf_counter() - started)

    async def compute_on_prefill(self, prompt: Sequence[int]) -> float:
        """Fill the prefill engine's prefix cache; returns the seconds until the first token."""
        self.doing = f"prefill alone of {len(prompt)} tokens"
        started = time.perf_counter()
        await self.solo(prompt, 1, link=self.prefill)
        return time.perf_counter() - started

    async def until_empty(self, timeout_s: float = 30) -> None:
        """Wait until no leg is left."""
        self.doing = "waiting for the last leg"
        for link in (self.prefill, self.decode):
            await link.until_idle(timeout_s)

    async def _learn_who_pushes(self, prompt: Sequence[int]) -> None:
        """A pushing prefill's address is in its word for decode. With it, decode legs can leave at
        once, as vLLM means it: the blocks are registered by the time that prefill ends."""
        self.doing = f"the first push, of {len(prompt)} tokens"
        payload, ticket = encoded(prompt, 1), f"push-{next(NUMBERS)}"
        prefill = await self.leg(wire.LEG_PREFILL, prompt, payload, ticket)
        handed = (await prefill.next(wire.Prefilled, self._patience_s)).handed
        decode = await self.leg(wire.LEG_DECODE, prompt, payload, ticket, handed)
        await self._to_the_end(decode)
        self._pushing_prefill = json.loads(handed)

    def _word_before_the_end(self, ticket: str) -> bytes:
        return json.dumps({**self._pushing_prefill, "remote_request_id": f"{ticket}.0.p"}).encode()

    async def _to_the_end(self, decode: Leg) -> float:
        """Wait for all tokens; returns when the first one came."""
        output = await decode.next(EngineCoreOutput, self._patience_s)
        first = time.perf_counter()
        while output.finish_reason is None:
            output = await decode.next(EngineCoreOutput, self._patience_s)
        return first


def fresh_prompt(length: int) -> list[int]:
    """Tokens that no other prompt begins with, so that no cache helps."""
    salt = next(NUMBERS)
    return [7 + (salt * 7919 + i * i + 31 * i) % _HEADS for i in range(length)]


async def in_turns(
    pair: HandingPair,
    ways: Sequence[str],
    rounds: Mapping[int, int],
    budget: Budget,
    seen: Runs,
) -> None:
    """Each way once per round and length, in an order that alternates, as far as the time goes.

    `rounds`: how many each length in tokens is to have. What was seen is added to `seen` as it
    comes, so that it is there if one of the requests fails.
    """
    for turn, length in turns(dict(rounds), budget):
        for way in list(ways)[:: 1 if turn % 2 == 0 else -1]:
            one = await pair.hand(way, fresh_prompt(length))
            seen.setdefault(way, {}).setdefault(length, []).append(one)
        print(f"round {turn + 1} of {rounds[length]} with {length} tokens done", flush=True)


async def at_once(
    pair: HandingPair, way: str, prompts: Iterator[list[int]], tokens: int, streams: int
) -> tuple[list[Seen], float]:
    """Requests of a number of clients, each of which waits for its answer before it takes another
    prompt; and how many seconds it took."""

    async def client() -> list[Seen]:
        return [await pair.hand(way, prompt, tokens) for prompt in prompts]

    started = time.perf_counter()
    done = await asyncio.gather(*(client() for _ in range(streams)))
    return [seen for each in done for seen in each], time.perf_counter() - started
