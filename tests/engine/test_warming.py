"""First requests of real workers: the tiny request is one that vLLM takes, and KV is moved."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from baton.messages import Role
from baton.wire import worker_pb2 as wire
from benchmarks.engines import ClusterOfTwo
from benchmarks.legs import Pair
from engine.tiny_request import tiny_request, tiny_tokens
from engine.warming import Warming
from tests.fakes.engine import FACTS


async def warm_up(cluster: ClusterOfTwo, pair: Pair) -> tuple[wire.WorkerReport, wire.WorkerReport]:
    """The decode worker meets the prefill worker; its report before and after."""
    own, peer = cluster.decode.info, cluster.prefill.info
    facts = replace(
        FACTS,
        block_size_tokens=own.block_size_tokens,
        max_model_len_tokens=own.max_model_len_tokens,
    )
    before = await pair.decode.until_idle()
    warming = Warming(own, partial(tiny_request, facts), tiny_tokens(facts))
    assert await warming.run(Role.DECODE, [peer], 60.0) == ""
    return before, await pair.decode.until_idle()


async def test_two_alone_and_one_handed_over(cluster: ClusterOfTwo, pair: Pair) -> None:
    before, after = await warm_up(cluster, pair)
    assert after.finished - before.finished == 3
    assert after.failed == before.failed
