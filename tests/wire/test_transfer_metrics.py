"""A report of transfers on its way from an engine's step to the router's metrics."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import grpc
import pytest

from baton.clock import MonotonicClock
from baton.ids import RouterId
from baton.messages import ClusterView, Member, WorkerState
from baton.settings import Settings
from baton.wire import worker_pb2 as wire
from baton.wire import worker_pb2_grpc as wire_grpc
from engine.ports import StepStats
from engine.service import WorkerServer
from kv_transfer.report import SECONDS_BOUNDS, Times, TransferReport
from router.heart import Heart
from router.link import connector
from router.metrics import RouterMetrics
from router.wire import Identity
from tests.fakes.worker import House, info
from tests.wire.test_service import until

pytestmark = pytest.mark.wire
AT = {"worker": "decode-0", "role": "decode"}
COUNTS = (2, *[0] * (len(SECONDS_BOUNDS) - 1), 1)
FIRST = TransferReport(
    bytes_written=4096,
    received=1,
    ended={"expired": 1},
    exposed=Times(COUNTS, 40.5),
    tickets={"target.fenced": 2},
    fenced_blocks=12,
    quarantined_blocks=5,
    gb_per_s={"agent": 1.5},
    backlog_s=0.75,
)


class Pair(House):
    """A served worker and a router's heart, linked."""

    async def start(self) -> None:
        self.server = WorkerServer(self.worker)
        self.port = self.server.bind("127.0.0.1")
        facts = replace(info(), address=f"127.0.0.1:{self.port}", transfer_agent="agent")
        await self.server.start(facts)
        identity = Identity(RouterId("r"), facts.config_digest)
        self.metrics = RouterMetrics()
        connect = connector(identity)
        self.heart = Heart(identity, Settings(), MonotonicClock(), self.metrics, connect)
        member = Member(facts.worker_id, facts.role, WorkerState.READY, facts)
        self.heart.set_view(ClusterView(1, (member,)))

    async def stop(self) -> None:
        await self.heart.aclose()
        await self.server.stop(0)

    def sample(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, {**AT, **labels})

    def reported(self, writes: float) -> Callable[[], bool]:
        return lambda: self.sample("baton_kv_transfer_writes_total") == writes


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    pair = Pair()
    await pair.start()
    yield pair
    await pair.stop()


async def test_a_report_reaches_the_metrics(pair: Pair) -> None:
    pair.engine.emit(stats=StepStats(0.5, transfer=replace(FIRST, writes=1)))
    await until(pair.reported(1))
    assert pair.sample("baton_kv_transfer_bytes_total") == 4096
    assert pair.sample("baton_kv_transfer_ended_total", reason="expired") == 1
    assert pair.sample("baton_kv_tickets", end="target", state="fenced") == 2
    assert pair.sample("baton_kv_fenced_blocks") == 12
    assert pair.sample("baton_kv_quarantined_blocks") == 5
    assert pair.sample("baton_kv_transfer_exposed_seconds_bucket", le="0.001") == 2
    assert pair.sample("baton_kv_transfer_exposed_seconds_count") == 3
    assert pair.sample("baton_kv_transfer_rate_gb_per_second", peer="decode-0") == 1.5
    assert pair.sample("baton_kv_transfer_backlog_seconds") == 0.75


async def test_later_ones_follow(pair: Pair) -> None:
    pair.engine.emit(stats=StepStats(0.5, transfer=TransferReport(writes=1)))
    await until(pair.reported(1))
    pair.engine.emit(stats=StepStats(0.5, transfer=TransferReport(writes=2)))
    pair.clock.advance(1.0)
    await until(pair.reported(2))


async def test_the_workers_own_report_has_it(pair: Pair) -> None:
    pair.engine.emit(stats=StepStats(0.5, transfer=FIRST))
    await until(lambda: pair.worker.tally.transfer is not None)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{pair.port}") as channel:
        report = await wire_grpc.WorkerStub(channel).Report(wire.ReportRequest())
        described = await wire_grpc.WorkerStub(channel).Describe(wire.DescribeRequest())
    assert report.transfer.quarantined_blocks == 5
    assert described.transfer_agent == "agent"
