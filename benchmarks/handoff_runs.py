"""What the handoff benchmark does with its engines, and how it reports what it saw."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks import link, shaped, wide_model
from benchmarks.engines import ClusterOfTwo
from benchmarks.handing import HandingPair, Seen, at_once, in_turns
from benchmarks.handoff_engines import BLOCK_TOKENS, Wanted, engines
from benchmarks.ways import WithProgressThreads

NAMES = {"baton": "baton", "pull": "vllm_pull", "push": "vllm_push"}
WAYS = tuple(NAMES)
_WARM_TOKENS = 512
_STREAMS = (1, 4, 16)


def quick() -> dict[str, Any]:
    """One pair of engines. With a link of its own all KV goes over TCP, shaped or not."""
    tls = "tcp" if link.inside() else None
    with engines(Wanted(4096, 0.5, tls)) as cluster:
        return asyncio.run(_quick(cluster, tls))


async def _quick(cluster: ClusterOfTwo, tls: str | None) -> dict[str, Any]:
    async with HandingPair(cluster) as pair:
        await pair.prepare(WAYS, _WARM_TOKENS)
        seen = await in_turns(pair, WAYS, [1024], rounds=3)
        on_link = await _shaped(pair, [1.0], rounds=1)
        await pair.until_empty()
    return {**_keys(seen, on_link), "transports": tls, "unshaped": _by_length(seen)}


def full() -> dict[str, Any]:
    """Three pairs of engines, one after the other."""
    with engines(Wanted(8192, 2.0, None)) as cluster:
        seen, load = asyncio.run(_unshaped(cluster, [128, 512, 1024, 2048, 4096, 8000], 3))
    with engines(Wanted(4096, 1.0, None, WithProgressThreads)) as cluster:
        loud, _ = asyncio.run(_unshaped(cluster, [1024, 2048], 3, streams=()))
    on_link = None
    if link.inside():
        with engines(Wanted(4096, 1.0, "tcp")) as cluster:
            on_link = asyncio.run(_on_link(cluster))
    return {
        **_keys(seen, on_link),
        "unshaped": _by_length(seen),
        "under_load": load,
        "with_progress_threads": _by_length(loud),
    }


async def _unshaped(
    cluster: ClusterOfTwo,
    lengths: Sequence[int],
    rounds: int,
    streams: Sequence[int] = _STREAMS,
) -> tuple[dict[str, dict[int, list[Seen]]], dict[str, Any]]:
    async with HandingPair(cluster) as pair:
        await pair.prepare(WAYS, _WARM_TOKENS)
        seen = await in_turns(pair, WAYS, lengths, rounds)
        load = {str(n): await _under_load(pair, n) for n in streams}
        await pair.until_empty()
        return seen, load


async def _under_load(pair: HandingPair, streams: int) -> dict[str, Any]:
    found = {}
    for way, name in NAMES.items():
        done, took_s = await at_once(pair, way, 512, 16, streams, requests=max(8, 2 * streams))
        found[name] = {
            "goodput_requests_per_s": round(len(done) / took_s, 2),
            "first_token_ms": _ms([s.first_token_s for s in done]),
            "whole_answer_ms": _ms([s.total_s for s in done]),
        }
    print(f"{streams} clients at once done", flush=True)
    return found


async def _on_link(cluster: ClusterOfTwo) -> dict[str, Any] | None:
    async with HandingPair(cluster) as pair:
        await pair.prepare(WAYS, _WARM_TOKENS)
        return await _shaped(pair, [0.1, 0.5, 1.0, 2.0], rounds=5)


async def _shaped(pair: HandingPair, factors: list[float], rounds: int) -> dict[str, Any] | None:
    if not link.inside():
        return None
    return await shaped.shares(pair, BLOCK_TOKENS, factors, rounds)


def _keys(seen: dict[str, dict[int, list[Seen]]], on_link: dict[str, Any] | None) -> dict[str, Any]:
    at_one = on_link["by_factor"]["1"] if on_link is not None else None
    return {
        "exposed_ms_p50": {
            name: _ms([s.exposed_s for runs in seen[way].values() for s in runs])
            for way, name in NAMES.items()
        },
        "shaped_exposed_share_chunked": at_one and at_one["chunk"]["share"],
        "shaped_exposed_share_layered": at_one and at_one["layer"]["share"],
        "shaped": on_link,
    }


def _by_length(seen: dict[str, dict[int, list[Seen]]]) -> dict[str, Any]:
    return {
        str(length): {
            "kv_mib": round(length * wide_model.KV_BYTES_PER_TOKEN / 2**20),
            **{name: _figures(seen[way][length]) for way, name in NAMES.items()},
        }
        for length in seen["baton"]
    }


def _figures(runs: list[Seen]) -> dict[str, float]:
    return {
        "prefill_ms": _ms([s.prefill_s for s in runs]),
        "exposed_ms": _ms([s.exposed_s for s in runs]),
        "first_token_ms": _ms([s.first_token_s for s in runs]),
    }


def _ms(seconds: list[float]) -> float:
    return round(statistics.median(seconds) * 1e3, 1)
