"""An answer goes on elsewhere with vLLM's connectors, too: they hand the prompt's KV over, and the
decode worker computes what was generated since."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks.engines import ClusterOfTwo
from benchmarks.legs import Pair
from benchmarks.oracle import score
from tests.engine.resuming import Asking, still


@pytest.mark.parametrize("length", [3, 256, 300])
async def test_the_rest_is_what_it_would_have_been(
    pair: Pair, cluster: ClusterOfTwo, length: int
) -> None:
    asking, tokens = Asking(pair, cluster), still(200, length)
    counted = {"frequency_penalty": 1.5, "presence_penalty": 0.5}
    whole = await asking.whole(tokens, **counted)
    cuts = (1, 7, 39)
    rests = await asyncio.gather(
        *(asking.pulled(tokens, whole.tokens[:n], **counted) for n in cuts)
    )
    answers = ((whole.tokens[:n], rest.tokens) for n, rest in zip(cuts, rests, strict=True))
    assert score((whole.answer(strict=True), [*a, *b]) for a, b in answers).same
    assert all(rest.end == whole.end for rest in rests)
