"""What a pair counts of its transfers reaches the workers: in steps, and once they are over."""

from __future__ import annotations

import asyncio

from baton.wire import worker_pb2 as wire
from benchmarks.engines import ClusterOfTwo
from benchmarks.legs import PushPair
from tests.engine.prompts import prompt

_REPORTS_LAG_S = 1.5


async def _reports(pair: PushPair) -> tuple[wire.Transfer, wire.Transfer]:
    return (await pair.prefill.report()).transfer, (await pair.decode.report()).transfer


async def _settled(pair: PushPair, sent: int, received: int) -> tuple[wire.Transfer, wire.Transfer]:
    """Both ends' reports once so many prompts have left and come, and no ticket is open; the
    engines have no step to make by then."""
    async with asyncio.timeout(10):
        while True:
            source, target = await _reports(pair)
            moved = sum(source.transfer.counts) >= sent and target.received >= received
            if moved and not source.tickets and not target.tickets:
                return source, target
            await asyncio.sleep(0.1)


async def test_a_handoff_is_counted_at_both_ends(pair: PushPair, cluster: ClusterOfTwo) -> None:
    await asyncio.sleep(_REPORTS_LAG_S)
    before = await _reports(pair)
    sent, received = sum(before[0].transfer.counts), before[1].received
    await pair.run(prompt(2000, 931), 2, "counted")
    source, target = await _settled(pair, sent + 1, received + 1)
    assert source.bytes_written > before[0].bytes_written
    assert source.descriptors >= source.writes > before[0].writes
    assert sum(source.transfer.counts) == sent + 1
    assert sum(source.exposed.counts) == sum(before[0].exposed.counts) + 1
    assert target.received == received + 1
    assert (target.fenced_blocks, target.quarantined_blocks) == (0, 0)
    for worker in (cluster.prefill, cluster.decode):
        progress = worker.progress()
        assert (progress.accused, progress.worn_out) == ((), "")
        assert worker.info.transfer_agent
        assert worker.info.engine_started > 0
