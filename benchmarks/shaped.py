"""How much of a transfer stays visible on a link of given speed.

The speed is set so that moving a prompt's whole KV takes a given multiple of its prefill. Exposed
is what lies between prefill's end and decode's first token, one decode step and all scheduling
included; its share is of the time that the whole KV needs on that link.
"""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks import link, wide_model
from benchmarks.handing import HandingPair, Seen, fresh_prompt

PROMPT_TOKENS = 1900
"""Four chunks of 512, of which the last holds 12 of 60 blocks."""
WAYS = ("chunk", "layer")


async def shares(
    pair: HandingPair, block_tokens: int, factors: list[float], rounds: int
) -> dict[str, Any]:
    """Exposed shares by factor and way."""
    blocks = -(-PROMPT_TOKENS // block_tokens)
    kv_bytes = blocks * block_tokens * wide_model.KV_BYTES_PER_TOKEN
    prefill_s = await _prefill_s(pair, rounds)
    found = {}
    for factor in factors:
        whole_s = factor * prefill_s
        link.limit(kv_bytes / whole_s)
        found[f"{factor:g}"] = await _at(pair, whole_s, rounds)
        link.limit(None)
        print(f"link at {factor:g} times the prefill done", flush=True)
    return {
        "prompt_tokens": PROMPT_TOKENS,
        "kv_mib": round(kv_bytes / 2**20),
        "prefill_ms": _ms(prefill_s),
        "by_factor": found,
    }


async def _prefill_s(pair: HandingPair, rounds: int) -> float:
    """With the KV left where it is until prefill has ended."""
    seen = [await pair.hand("pull", fresh_prompt(PROMPT_TOKENS)) for _ in range(rounds)]
    return statistics.median(s.prefill_s for s in seen)


async def _at(pair: HandingPair, whole_s: float, rounds: int) -> dict[str, Any]:
    measured = await _whole_s(pair)
    found: dict[str, Any] = {"whole_ms": _ms(whole_s), "whole_measured_ms": _ms(measured)}
    seen: dict[str, list[Seen]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way in WAYS:
            seen[way].append(await pair.hand(way, fresh_prompt(PROMPT_TOKENS)))
            last = seen[way][-1]
            print(f"{way}: prefill {_ms(last.prefill_s)} ms, exposed {_ms(last.exposed_s)} ms")
    for way, runs in seen.items():
        exposed_s = statistics.median(s.exposed_s for s in runs)
        found[way] = {
            "prefill_ms": _ms(statistics.median(s.prefill_s for s in runs)),
            "exposed_ms": _ms(exposed_s),
            "share": round(exposed_s / whole_s, 3),
        }
    return found


async def _whole_s(pair: HandingPair) -> float:
    """A handoff of a prompt that prefill has in its cache: nothing but transfer. It shows that the
    link is as slow as it was told to be."""
    prompt = fresh_prompt(PROMPT_TOKENS)
    await pair.compute_on_prefill(prompt)
    return (await pair.hand("chunk", prompt)).first_token_s


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 1)
