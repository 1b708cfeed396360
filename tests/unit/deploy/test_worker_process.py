"""What a worker's process tells its supervisor of its engine's transfers. No engine runs here."""

from __future__ import annotations

import asyncio
import os
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest

from baton.messages import Role
from baton.settings import Settings
from deploy import worker_process
from deploy.engine_processes import ranks, started, transfer_agent
from deploy.worker_process import _ACCUSED_MAX, WorkerProcess
from engine.ports import StepStats
from engine.step_work import StepWork
from kv_transfer.endpoint import Endpoint, Layout, encode_endpoint, joined
from kv_transfer.liveness import this_process
from kv_transfer.report import TransferReport
from tests.fakes.engine import FACTS
from tests.fakes.worker import House
from tests.unit.cluster.samples import info
from tests.unit.engine.hearing import step


@pytest.fixture
async def house() -> House:
    return House()


@pytest.fixture
def process(house: House) -> WorkerProcess:
    settings = Settings.model_validate({"kv_transfer": {"quarantine_max_share": 0.25}})
    process = WorkerProcess(settings.model_dump(), "decode-0", 1, "decode", 0, "digest")
    process._worker, process._engine = house.worker, house.engine
    return process


def reported(house: House, report: TransferReport) -> None:
    step(house, stats=StepStats(0.5, transfer=report))


async def test_it_asks_for_nothing_without_a_reason(process: WorkerProcess, house: House) -> None:
    assert (process.progress().accused, process.progress().worn_out) == ((), "")
    reported(house, TransferReport(quarantined_blocks=16))
    assert process.progress().worn_out == ""


async def test_it_passes_accusations_on_but_not_any_number(
    process: WorkerProcess, house: House
) -> None:
    reported(house, TransferReport(accused=tuple(map(str, range(1000)))))
    assert process.progress().accused == tuple(map(str, range(_ACCUSED_MAX)))


async def test_above_the_share_it_is_worn_out(process: WorkerProcess, house: House) -> None:
    reported(house, TransferReport(quarantined_blocks=17))
    assert process.progress().worn_out == "17 of its 64 KV blocks are quarantined"


async def test_deaths_reach_the_engine(process: WorkerProcess, house: House) -> None:
    process._loop._thread.start()
    process.peers_dead(("agent a", "agent b"))
    async with asyncio.timeout(5):
        while house.engine.mourned != ["agent a", "agent b"]:  # noqa: ASYNC110 - another thread
            await asyncio.sleep(0.01)
    process._loop.call(process._loop.loop.stop)


def test_a_signal_while_it_starts_leaves_nothing_to_finish(process: WorkerProcess) -> None:
    assert not process.leave()
    assert not process.progress().leaving


async def test_told_to_leave_and_left_alone_it_drains_and_ends(
    process: WorkerProcess, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()
    monkeypatch.setattr(worker_process, "_NOTICE_S", 0.01)
    monkeypatch.setattr(worker_process, "_STOPPED_WITHIN_S", 0.01)
    monkeypatch.setattr(os, "_exit", lambda _code: ended.set())
    process._ready = info("decode-0", 1, Role.DECODE)
    process._loop._thread.start()
    assert process.leave()
    assert process.progress().leaving
    assert await asyncio.to_thread(ended.wait, 5)
    assert house.worker.load().draining
    assert process.drained()
    process._loop.call(process._loop.loop.stop)


@pytest.mark.parametrize("fails", ["", "request", "report"])
async def test_its_first_requests_are_made_once_and_then_forgotten(
    process: WorkerProcess, house: House, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    runs: list[tuple[object, ...]] = []

    async def run(*args: object) -> str:
        runs.append(args)
        if fails == "request":
            raise ValueError("not like this")
        return "no handover with prefill-0"

    async def report() -> None:
        if fails == "report":
            raise ValueError("not like this")

    monkeypatch.setattr(house.engine, "transfer_report", report)
    monkeypatch.setattr(worker_process, "_warming", lambda *_: SimpleNamespace(run=run))
    process._loop._thread.start()
    process.warm(Role.DECODE, (), 5.0)
    assert runs == []
    process._ready = info("decode-0", 1, Role.DECODE)
    assert process.progress().warmed is None
    house.worker.outlook.learning.stepped(StepWork(1, 10, 50.0, seconds=0.5))
    for _ in range(2):
        process.warm(Role.DECODE, (), 5.0)
    async with asyncio.timeout(20):
        while process.progress().warmed is None:  # noqa: ASYNC110 - another thread
            await asyncio.sleep(0.01)
    process._loop.call(process._loop.loop.stop)
    assert runs == [(Role.DECODE, (), 5.0)]
    if fails:
        assert process.progress().warmed == "first requests: ValueError('not like this')"
    else:
        assert process.progress().warmed == "no handover with prefill-0"
    assert house.worker.outlook.learning.lessons == 0


def test_an_engine_of_several_ranks_is_named_with_the_processes_that_own_its_agents() -> None:
    layouts = [Layout((), 0, 16, "DRAM", 0, "", rank=rank, ranks=2) for rank in range(2)]
    here = this_process()
    processes = (here, replace(here, pid=77, started=8))
    ends = [Endpoint("a", b"", *both) for both in zip(layouts, processes, strict=True)]
    facts = replace(FACTS, transfer_endpoint=encode_endpoint(joined(dict(enumerate(ends)))))
    assert transfer_agent(facts) == "a"
    assert ranks(facts) == ((here.pid, here.started), (77, 8))
    # Nobody here could tell whether a process of another host has ended.
    ends[1] = replace(ends[1], process=replace(here, host="elsewhere"))
    facts = replace(FACTS, transfer_endpoint=encode_endpoint(joined(dict(enumerate(ends)))))
    assert (transfer_agent(facts), ranks(facts)) == ("", ())


def test_an_engine_is_named_by_the_agent_it_owns() -> None:
    layout = Layout((), 0, 16, "DRAM", 0, "")
    endpoint = encode_endpoint(Endpoint("agent a", b"", layout, this_process()))
    facts = replace(FACTS, pid=os.getpid(), transfer_endpoint=endpoint)
    assert transfer_agent(facts) == "agent a"
    # Another process's end would prove nothing about the agent.
    assert transfer_agent(replace(facts, pid=1)) == ""
    assert transfer_agent(FACTS) == ""
    assert ranks(facts) == ()
    assert started(os.getpid()) == this_process().started
    assert started(2**22 + 1) == 0
