"""Requests through a pair of engines, each handed over in a way of its own, with their times."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vllm.v1.engine import EngineCoreOutput

from baton.wire import worker_pb2 as wire
from benchmarks.engines import ClusterOfTwo
from benchmarks.legs import NUMBERS, Leg, Pair, encoded

_HEADS = 4000


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
    """Both links of one router, for all ways of `ways`."""

    def __init__(self, cluster: ClusterOfTwo) -> None:
        super().__init__(cluster)
        self._pushing_prefill: dict[str, Any] = {}

    async def prepare(self, ways: Sequence[str], length: int) -> None:
        """The first handoff of each way also connects the engines."""
        if "push" in ways:
            await self._learn_who_pushes(fresh_prompt(length))
        for way in ways:
            await self.hand(way, fresh_prompt(length))

    async def hand(self, way: str, prompt: Sequence[int], tokens: int = 1) -> Seen:
        """One request. A pull's decode leg needs prefill's word, the others leave at once."""
        payload, ticket = encoded(prompt, tokens), f"{way}-{next(NUMBERS)}"
        started = time.perf_counter()
        prefill = await self.leg(wire.LEG_PREFILL, prompt, payload, ticket)
        decode = None
        if way != "pull":
            known = self._word_before_the_end(ticket) if way == "push" else b""
            decode = await self.leg(wire.LEG_DECODE, prompt, payload, ticket, known)
        handed = (await prefill.next(wire.Prefilled)).handed
        prefilled = time.perf_counter()
        if decode is None:
            decode = await self.leg(wire.LEG_DECODE, prompt, payload, ticket, handed)
        first = await _to_the_end(decode)
        return Seen(prefilled - started, first - prefilled, time.perf_counter() - started)

    async def compute_on_prefill(self, prompt: Sequence[int]) -> float:
        """Fill the prefill engine's prefix cache; returns the seconds until the first token."""
        started = time.perf_counter()
        await self.solo(prompt, 1, link=self.prefill)
        return time.perf_counter() - started

    async def until_empty(self, timeout_s: float = 30) -> None:
        """Wait until no leg is left."""
        for link in (self.prefill, self.decode):
            await link.until_idle(timeout_s)

    async def _learn_who_pushes(self, prompt: Sequence[int]) -> None:
        """A pushing prefill's address is in its word for decode. With it, decode legs can leave at
        once, as vLLM means it: the blocks are registered by the time that prefill ends."""
        payload, ticket = encoded(prompt, 1), f"push-{next(NUMBERS)}"
        prefill = await self.leg(wire.LEG_PREFILL, prompt, payload, ticket)
        handed = (await prefill.next(wire.Prefilled)).handed
        decode = await self.leg(wire.LEG_DECODE, prompt, payload, ticket, handed)
        await decode.tokens()
        self._pushing_prefill = json.loads(handed)

    def _word_before_the_end(self, ticket: str) -> bytes:
        return json.dumps({**self._pushing_prefill, "remote_request_id": f"{ticket}.0.p"}).encode()


async def _to_the_end(decode: Leg) -> float:
    """Wait for all tokens; returns when the first one came."""
    output = await decode.next(EngineCoreOutput)
    first = time.perf_counter()
    if output.finish_reason is None:
        await decode.tokens()
    return first


def fresh_prompt(length: int) -> list[int]:
    """Tokens that no other prompt begins with, so that no cache helps."""
    salt = next(NUMBERS)
    return [7 + (salt * 7919 + i * i + 31 * i) % _HEADS for i in range(length)]


async def in_turns(
    pair: HandingPair, ways: Sequence[str], lengths: Sequence[int], rounds: int
) -> dict[str, dict[int, list[Seen]]]:
    """Each way and length once per round, in an order that alternates."""
    seen: dict[str, dict[int, list[Seen]]] = {way: {n: [] for n in lengths} for way in ways}
    for turn in range(rounds):
        for length in lengths:
            for way in list(ways)[:: 1 if turn % 2 == 0 else -1]:
                seen[way][length].append(await pair.hand(way, fresh_prompt(length)))
        print(f"round {turn + 1} of {rounds} done", flush=True)
    return seen


async def at_once(
    pair: HandingPair, way: str, length: int, tokens: int, streams: int, requests: int
) -> tuple[list[Seen], float]:
    """Requests of a number of clients, each of which waits for its answer; and how long it took."""
    left = iter(range(requests))

    async def client() -> list[Seen]:
        return [await pair.hand(way, fresh_prompt(length), tokens) for _ in left]

    started = time.perf_counter()
    done = await asyncio.gather(*(client() for _ in range(streams)))
    return [seen for each in done for seen in each], time.perf_counter() - started
