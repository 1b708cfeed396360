"""Baton's handoff between two engines on one GPU, with the shape of Llama 3.1 8B.

The weights are made up. Exposed time is to decode's first token. The rate is a lower bound: the
KV of a prompt that prefill has in its cache, over the time of the whole handoff.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import wide_model
from benchmarks.engines import ClusterOfTwo, Setup
from benchmarks.handing import HandingPair, Seen, fresh_prompt

_LENGTHS = (16_384, 32_768)
_MAX_LEN_TOKENS = 40_000
_KV_CACHE_BYTES = 24 * 2**30
_ROUNDS = 5
_WAY = "baton"
_TRANSFER = {"connector": "baton", "verify": "off"}


def run() -> dict[str, Any]:
    """Start the engines and measure."""
    with tempfile.TemporaryDirectory(prefix="baton-handoff-") as folder:
        path = wide_model.make_8b(Path(folder), _MAX_LEN_TOKENS)
        cluster = ClusterOfTwo(Setup(_TRANSFER, _settings(path)))
        try:
            return asyncio.run(_measure(cluster))
        finally:
            cluster.stop()


def _settings(model: Path) -> dict[str, Any]:
    return {
        "model": {"path": str(model), "served_name": "8b", "dtype": "bfloat16"},
        "engine": {
            "device": "cuda",
            "max_batched_tokens": 8192,
            # Two connectors of vLLM in one process would count under the same names.
            "metrics": False,
            # A fixed size, because each engine would take what it finds free on the GPU.
            "extra_args": {**wide_model.DUMMY, "kv_cache_memory_bytes": _KV_CACHE_BYTES},
        },
        "log": {"level": "error"},
    }


async def _measure(cluster: ClusterOfTwo) -> dict[str, Any]:
    async with HandingPair(cluster) as pair:
        # Connecting two engines takes a good part of a second, once.
        await pair.prepare([_WAY], 1024)
        found = {str(length): await _at(pair, length) for length in _LENGTHS}
        await pair.until_empty()
    return {"block_tokens": cluster.prefill.info.block_size_tokens, "by_prompt_tokens": found}


async def _at(pair: HandingPair, length: int) -> dict[str, Any]:
    seen = [await pair.hand(_WAY, fresh_prompt(length)) for _ in range(_ROUNDS)]
    whole_s = statistics.median([await _cached(pair, length) for _ in range(_ROUNDS)])
    kv_bytes = length * wide_model.KV_BYTES_PER_TOKEN_8B
    print(f"{length} tokens done", flush=True)
    return {
        "prefill_ms": _ms([s.prefill_s for s in seen]),
        "exposed_ms": _ms([s.exposed_s for s in seen]),
        "exposed_ms_worst": _ms([max(seen, key=_exposed).exposed_s]),
        "write_gb_per_s_at_least": round(kv_bytes / whole_s / 1e9, 1),
    }


def _exposed(seen: Seen) -> float:
    return seen.exposed_s


async def _cached(pair: HandingPair, length: int) -> float:
    prompt = fresh_prompt(length)
    await pair.compute_on_prefill(prompt)
    return (await pair.hand(_WAY, prompt)).first_token_s


def _ms(seconds: list[float]) -> float:
    return round(statistics.median(seconds) * 1e3, 1)
