"""How much of a transfer stays visible on a link of given speed.

The speed is set so that moving a prompt's whole KV takes a given multiple of its prefill. Exposed
is what lies between prefill's end and decode's first token, one decode step and all scheduling
included; its share is of the time that the whole KV needs on that link.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from benchmarks import link, wide_model
from benchmarks.handing import HandingPair, Seen, fresh_prompt
from benchmarks.handoff_budget import Budget

PROMPT_TOKENS = 1900
"""Four chunks of 512, of which the last holds 12 of 60 blocks."""
WAYS = ("chunk", "layer")


async def shares(
    pair: HandingPair,
    block_tokens: int,
    factors: Sequence[float],
    rounds: int,
    budget: Budget,
    found: dict[str, Any],
) -> None:
    """Put exposed shares by factor and way into `found`, as they come. Rounds that do not fit into
    the time are left out, but for the first of each factor."""
    blocks = -(-PROMPT_TOKENS // block_tokens)
    kv_bytes = blocks * block_tokens * wide_model.KV_BYTES_PER_TOKEN
    seconds, cached = await _prefill(pair, rounds)
    prefill_s = statistics.median(seconds)
    found |= {
        "prompt_tokens": PROMPT_TOKENS,
        "kv_mib": round(kv_bytes / 2**20),
        "prefill_ms": _ms(prefill_s),
        "by_factor": {},
    }
    for i, factor in enumerate(factors):
        if i > 0:
            _, cached = await _prefill(pair, 1)  # What went over the link has displaced it.
        whole_s = factor * prefill_s
        share = budget.share(len(factors) - i)
        with _limited(kv_bytes / whole_s):
            found["by_factor"][f"{factor:g}"] = await _at(pair, cached, whole_s, rounds, share)
        print(f"link at {factor:g} times the prefill done", flush=True)


@contextmanager
def _limited(bytes_per_s: float) -> Iterator[None]:
    link.limit(bytes_per_s)
    try:
        yield
    finally:
        link.limit(None)


async def _at(
    pair: HandingPair, cached: list[int], whole_s: float, rounds: int, budget: Budget
) -> dict[str, Any]:
    # Nothing but transfer: it shows that the link is as slow as it was told to be.
    measured = (await pair.hand("chunk", cached)).first_token_s
    return {
        "whole_ms": _ms(whole_s),
        "whole_measured_ms": _ms(measured),
        **await _by_way(pair, whole_s, rounds, budget),
    }


async def _prefill(pair: HandingPair, rounds: int) -> tuple[list[float], list[int]]:
    """Its times with nothing to hand over, and a prompt that it has in its cache then."""
    prompts = [fresh_prompt(PROMPT_TOKENS) for _ in range(rounds)]
    return [await pair.compute_on_prefill(prompt) for prompt in prompts], prompts[-1]


async def _by_way(pair: HandingPair, whole_s: float, rounds: int, budget: Budget) -> dict[str, Any]:
    seen: dict[str, list[Seen]] = {way: [] for way in WAYS}
    took_s = 0.0
    for turn in range(rounds):
        if turn and not budget.allows(took_s):
            break
        before_s = budget.left_s
        for way in WAYS:
            seen[way].append(await pair.hand(way, fresh_prompt(PROMPT_TOKENS)))
        took_s = before_s - budget.left_s
    return {way: _figures(runs, whole_s) for way, runs in seen.items()}


def _figures(runs: list[Seen], whole_s: float) -> dict[str, Any]:
    exposed_s = statistics.median(s.exposed_s for s in runs)
    return {
        "prefill_ms": _ms(statistics.median(s.prefill_s for s in runs)),
        "exposed_ms": _ms(exposed_s),
        "exposed_each_ms": [_ms(s.exposed_s) for s in runs],
        "share": round(exposed_s / whole_s, 3),
    }


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 1)
