"""First requests of real workers joined by Baton's connector."""

from __future__ import annotations

import asyncio

from benchmarks.engines import ClusterOfTwo
from benchmarks.legs import PushPair
from tests.engine.test_warming import warm_up


async def test_a_block_is_written_and_the_pair_is_measured(
    cluster: ClusterOfTwo, pair: PushPair
) -> None:
    before, _ = await warm_up(cluster, pair)
    async with asyncio.timeout(5):
        while not await _is_told(pair, before.transfer.received):  # noqa: ASYNC110 - two processes
            await asyncio.sleep(0.05)


async def _is_told(pair: PushPair, received: int) -> bool:
    decode, prefill = await pair.decode.report(), await pair.prefill.report()
    return decode.transfer.received > received and bool(prefill.transfer.gb_per_s)
