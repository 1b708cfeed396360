"""How the handoff benchmark reports what it saw."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.handing import Runs, Seen

NAMES = {"baton": "baton", "pull": "vllm_pull", "push": "vllm_push"}
KEY_TOKENS = 1024
"""The prompt length of the figures that stand alone."""


def keys(seen: Runs, on_link: Mapping[str, Any] | None) -> dict[str, Any]:
    """The figures that every run has; null where there are none."""
    at_one = (on_link or {}).get("by_factor", {}).get("1")
    return {
        "exposed_ms_p50": {
            name: _ms([s.exposed_s for s in seen.get(way, {}).get(KEY_TOKENS, ())])
            for way, name in NAMES.items()
        },
        "shaped_exposed_share_chunked": at_one and at_one["chunk"]["share"],
        "shaped_exposed_share_layered": at_one and at_one["layer"]["share"],
        "shaped": on_link or None,
    }


def by_length(seen: Runs, kv_bytes_per_token: int) -> dict[str, Any]:
    """Medians by prompt length in tokens, of as many requests as there was time for."""
    lengths = sorted({n for runs in seen.values() for n in runs})
    return {
        str(length): {
            "kv_mib": round(length * kv_bytes_per_token / 2**20, 1),
            **{NAMES[way]: _figures(runs[length]) for way, runs in seen.items() if length in runs},
        }
        for length in lengths
    }


def baton_share_of(
    seen: Runs, others: Mapping[str, Mapping[int, list[Seen]]], seconds: Callable[[Seen], float]
) -> dict[str, Any]:
    """Baton's median as a share of each of the others', by prompt length in tokens."""
    return {
        str(length): {
            name: round(_median(runs, seconds) / _median(theirs[length], seconds), 3)
            for name, theirs in others.items()
            if length in theirs
        }
        for length, runs in seen.get("baton", {}).items()
    }


def exposed_s(seen: Seen) -> float:
    """What the handoff is judged by. It leaves out by how much a connector slows prefill."""
    return seen.exposed_s


def first_token_s(seen: Seen) -> float:
    """What the client waits for."""
    return seen.first_token_s


def under_load(done: list[Seen], took_s: float) -> dict[str, Any]:
    """Of clients that send one request after the other."""
    return {
        "requests": len(done),
        "goodput_requests_per_s": round(len(done) / took_s, 2),
        "first_token_ms": _ms([s.first_token_s for s in done]),
        "whole_answer_ms": _ms([s.total_s for s in done]),
    }


def _figures(runs: list[Seen]) -> dict[str, Any]:
    return {
        "requests": len(runs),
        "prefill_ms": _ms([s.prefill_s for s in runs]),
        "exposed_ms": _ms([s.exposed_s for s in runs]),
        "first_token_ms": _ms([s.first_token_s for s in runs]),
    }


def _median(runs: list[Seen], seconds: Callable[[Seen], float]) -> float:
    return statistics.median(map(seconds, runs))


def _ms(seconds: Sequence[float]) -> float | None:
    return round(statistics.median(seconds) * 1e3, 1) if seconds else None
