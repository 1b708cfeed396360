"""What becomes of a worker when a process of it dies. Runs last: it uses the engines up."""

from __future__ import annotations

import asyncio

import pytest
from vllm.v1.engine import EngineCoreOutput

from baton.errors import Reason
from baton.wire import worker_pb2 as wire
from benchmarks.engines import ClusterOfTwo, gone_within, kill
from benchmarks.legs import NUMBERS, LegEndedError, Pair, encoded
from tests.engine.prompts import prompt

# A dead worker's legs are gone, but its service may be as well.


async def test_a_killed_engine_ends_its_legs_once_and_takes_no_more(cluster: ClusterOfTwo) -> None:
    async with Pair(cluster) as pair:
        short = prompt(100, 950)
        submit = wire.Submit(
            leg_id=f"r{next(NUMBERS)}.0.s",
            kind=wire.LEG_SOLO,
            request=encoded(short, 3000, "death"),
            prompt_tokens=len(short),
        )
        leg = await pair.decode.submit(submit)
        await leg.next(EngineCoreOutput)
        kill(cluster.decode.info.engine_pid)
        ended = await reason_of(leg)
        assert ended.reason == Reason.WORKER_LOST.value
        assert leg.events.empty()
        with pytest.raises(LegEndedError):
            await pair.solo(short, 4)
        assert (await pair.decode.report()).legs == 0
    progress = cluster.decode.progress()
    assert not progress.alive
    assert progress.error["reason"] == Reason.ENGINE_FAILED.value


async def reason_of(leg: object) -> wire.Ended:
    """Tokens that were under way first, then the end."""
    async with asyncio.timeout(20):
        while True:
            try:
                await leg.next(EngineCoreOutput)
            except LegEndedError as error:
                return error.ended


def test_an_engine_dies_with_the_process_that_owns_it(cluster: ClusterOfTwo) -> None:
    kill(cluster.prefill.info.pid)
    assert gone_within(cluster.prefill.info.engine_pid, 2.0)
