"""What a pair counts of its transfers reaches the workers: in steps, and once they are over."""

from __future__ import annotations

import asyncio

from baton.wire import worker_pb2 as wire
from benchmarks.engines import ClusterOfTwo
from benchmarks.legs import PushPair
from tests.engine.prompts import prompt


async def _settled(pair: PushPair) -> tuple[wire.Transfer, wire.Transfer]:
    """Both ends' reports once no ticket is open; the engines have no step to make by then."""
    async with asyncio.timeout(10):
        while True:
            ends = [(await end.report()).transfer for end in (pair.prefill, pair.decode)]
            if not any(end.tickets for end in ends):
                return ends[0], ends[1]
            await asyncio.sleep(0.1)


async def test_a_handoff_is_counted_at_both_ends(pair: PushPair, cluster: ClusterOfTwo) -> None:
    await pair.run(prompt(200, 930), 2, "first")
    before = await _settled(pair)
    await pair.run(prompt(2000, 931), 2, "counted")
    source, target = await _settled(pair)
    assert source.bytes_written > before[0].bytes_written
    assert source.descriptors >= source.writes > before[0].writes
    assert sum(source.transfer.counts) == sum(before[0].transfer.counts) + 1
    assert sum(source.exposed.counts) == sum(before[0].exposed.counts) + 1
    assert target.received == before[1].received + 1
    assert (target.fenced_blocks, target.quarantined_blocks) == (0, 0)
    for worker in (cluster.prefill, cluster.decode):
        progress = worker.progress()
        assert (progress.accused, progress.worn_out) == ((), "")
        assert worker.info.transfer_agent
        assert worker.info.engine_started > 0
