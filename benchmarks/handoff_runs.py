"""What the handoff benchmark does with its engines: the quick run, and the full one in parts."""

from __future__ import annotations

import asyncio
from typing import Any

from benchmarks import link, shaped, wide_model
from benchmarks.engines import ClusterOfTwo
from benchmarks.handing import HandingPair, at_once, fresh_prompt, in_turns
from benchmarks.handoff_budget import Budget
from benchmarks.handoff_engines import BLOCK_TOKENS, Wanted, engines
from benchmarks.handoff_figures import (
    KEY_TOKENS,
    NAMES,
    baton_share_of,
    by_length,
    exposed_s,
    first_token_s,
    keys,
    under_load,
)
from benchmarks.handoff_parts import Found, Part, run
from benchmarks.ways import PullWithProgressThread, PushWithProgressThread

WAYS = tuple(NAMES)
_WARM_TOKENS = 512
_QUICK_TURNS_S, _QUICK_S = 11.0, 40.0
"""On a busy machine the last of three turns is left out."""
_FULL_S = 840.0
"""For all parts. The imports before and the last engines' end after take half a minute."""
_ROUNDS = {128: 5, 512: 5, 1024: 5, 2048: 3, 4096: 2, 8000: 1}
"""By prompt length: long ones take most of the time, and vary least."""
_ROUNDS_DEMO = {128: 5, 512: 5, 1024: 5, 2048: 3, 8000: 1}
_ROUNDS_LOUD = {128: 3, 512: 5, 1024: 5, 2048: 2}
_LOAD_S = 100.0
_REQUESTS = {1: 6, 4: 8, 16: 16}
"""By the number of clients."""
_LOAD_TOKENS, _ANSWER_TOKENS = 512, 16
_FACTORS = (1.0, 0.1, 0.5, 2.0)


def quick() -> dict[str, Any]:
    """One pair of engines. With a link of its own all KV goes over TCP, shaped or not."""
    tls = "tcp" if link.inside() else None
    with engines(Wanted(4096, 0.5, tls)) as cluster:
        return asyncio.run(_quick(cluster, tls))


async def _quick(cluster: ClusterOfTwo, tls: str | None) -> dict[str, Any]:
    found = Found()
    async with HandingPair(cluster) as pair:
        await pair.prepare(WAYS, _WARM_TOKENS)
        await in_turns(pair, WAYS, {KEY_TOKENS: 3}, Budget(_QUICK_TURNS_S), found.seen)
        if link.inside():
            await shaped.shares(pair, BLOCK_TOKENS, [1.0], 2, Budget(_QUICK_S), found.shaped)
        await pair.until_empty()
    return {
        **keys(found.seen, found.shaped),
        "transports": tls,
        "unshaped": by_length(found.seen, wide_model.KV_BYTES_PER_TOKEN),
    }


def full() -> dict[str, Any]:
    """All parts, one after the other, each with engines of its own."""
    total = Budget(_FULL_S)
    found = {part.name: run(part, total) for part in _parts()}
    wide, loud = found["wide_model"], {w: found[f"{w}_with_progress_thread"] for w in _LOUD}
    loud_runs = {w: part.seen.get(w, {}) for w, part in loud.items()}
    others = {name: wide.seen.get(way, {}) for way, name in NAMES.items() if way != "baton"}
    others |= {f"{NAMES[w]}_with_progress_thread": runs for w, runs in loud_runs.items()}
    return {
        **keys(wide.seen, found["link"].shaped if "link" in found else None),
        "parts": {name: each.how_it_went() for name, each in found.items()},
        "baton_exposed_of": baton_share_of(wide.seen, others, exposed_s),
        "baton_first_token_of": baton_share_of(wide.seen, others, first_token_s),
        "unshaped": by_length(wide.seen, wide.kv_bytes_per_token),
        "under_load": wide.load,
        "with_progress_threads": by_length(loud_runs, wide_model.KV_BYTES_PER_TOKEN),
        "demo_model": _demo_figures(found["demo_model"]),
    }


def _demo_figures(demo: Found) -> dict[str, Any]:
    return {
        "kv_bytes_per_token": demo.kv_bytes_per_token,
        "unshaped": by_length(demo.seen, demo.kv_bytes_per_token),
    }


_LOUD = {"pull": PullWithProgressThread, "push": PushWithProgressThread}


def _parts() -> list[Part]:
    on_link = Part("link", Wanted(4096, 1.0, "tcp"), 200, _on_link)
    loud = [
        Part(f"{way}_with_progress_thread", Wanted(4096, 1.0, None, handoffs), 80, _ways(way))
        for way, handoffs in _LOUD.items()
    ]
    return [
        Part("wide_model", Wanted(8192, 2.0, None), 430, _wide, patience_s=120),
        *([on_link] if link.inside() else []),
        Part("demo_model", Wanted(8192, 1.0, None, demo_model=True), 110, _demo, patience_s=90),
        *loud,
    ]


async def _wide(pair: HandingPair, budget: Budget, found: Found) -> None:
    await pair.prepare(WAYS, _WARM_TOKENS)
    await in_turns(pair, WAYS, _ROUNDS, budget.part(budget.left_s - _LOAD_S), found.seen)
    await _under_load(pair, budget, found.load)
    await pair.until_empty()


async def _demo(pair: HandingPair, budget: Budget, found: Found) -> None:
    await pair.prepare(WAYS, _WARM_TOKENS)
    await in_turns(pair, WAYS, _ROUNDS_DEMO, budget, found.seen)


def _ways(*ways: str) -> Any:
    async def measure(pair: HandingPair, budget: Budget, found: Found) -> None:
        await pair.prepare(ways, _WARM_TOKENS)
        await in_turns(pair, ways, _ROUNDS_LOUD, budget, found.seen)

    return measure


async def _on_link(pair: HandingPair, budget: Budget, found: Found) -> None:
    await pair.prepare(WAYS, _WARM_TOKENS)
    await shaped.shares(pair, BLOCK_TOKENS, _FACTORS, 3, budget, found.shaped)


async def _under_load(pair: HandingPair, budget: Budget, load: dict[str, Any]) -> None:
    left = len(_REQUESTS) * len(WAYS)
    for clients, requests in _REQUESTS.items():
        for way, name in NAMES.items():
            fresh = (fresh_prompt(_LOAD_TOKENS) for _ in range(requests))
            prompts = budget.share(left).while_any_is_left(fresh)
            done = await at_once(pair, way, prompts, _ANSWER_TOKENS, clients)
            load.setdefault(str(clients), {})[name] = under_load(*done)
            left -= 1
        print(f"{clients} clients at once done", flush=True)
