"""A router's process in a thread, as it runs in a cluster, before workers without engines."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack
from typing import Any, Self

import httpx
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, FinishReason

from baton.ids import RouterId
from baton.messages import ClusterView, Dispatch, Member, Role, WorkerState
from baton.settings import Settings
from baton.tasks import Tasks
from baton.wire import worker_pb2 as pb
from cluster.ports import RouterRow, ScalingRow
from deploy.router_process import RouterProcess
from tests.wire.fake_worker import DIGEST, FakeWorker
from tests.wire.fakes import encode

TOKENS = 8
_REPORT_S = 0.2
WHY = ("prefill: kept, 41 % of what it can do", "decode: one more, TPOT would break at 2")


class Cluster:
    """Prefill and decode workers and one router. `router` may be ended and started again."""

    def __init__(self, prefill: int = 1, decode: int = 1, **router: Any) -> None:
        given = {"port": 0, "policy": "affinity", "disaggregate": "always", **router}
        self.settings = Settings.model_validate({"model": {"served_name": "demo"}, "router": given})
        self.workers = [
            *(_worker(f"prefill-{i}", Role.PREFILL) for i in range(prefill)),
            *(_worker(f"decode-{i}", Role.DECODE) for i in range(decode)),
        ]
        self.scaling = ScalingRow(
            "auto", prefill, decode, WHY, ("12:00:01 prefill 1, decode 1: x",)
        )
        self.port = int(given["port"])
        self.loads: dict[str, pb.Load] = {}
        """What each worker reports from now on."""
        self._version = 0
        self._tasks = Tasks("workers")
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for worker in self.workers:
            await self._stack.enter_async_context(worker)
        self._tasks.spawn(self._report(), "report")
        await self.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.stop()
        await self._tasks.aclose()
        await self._stack.aclose()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """A router; after `stop`, another one at the same port."""
        dump = self.settings.model_dump()
        dump["router"]["port"] = self.port
        self.router = RouterProcess(dump, "router-0", DIGEST)
        self.show()
        self.router.start()
        async with asyncio.timeout(60):
            while (progress := self.router.progress()).ready_url is None:
                assert progress.error is None, progress.error
                await asyncio.sleep(0.05)
        self.port = int(progress.ready_url.rpartition(":")[2])
        self.client = httpx.AsyncClient(base_url=self.url, timeout=30, trust_env=False)

    async def stop(self) -> None:
        """Ends the router at once, as if its process had ended."""
        await self.client.aclose()
        await asyncio.to_thread(self.router.stop, 1.0)

    def show(self, *starting: str) -> None:
        """Tells the router of all workers; `starting` are not ready yet."""
        self._version += 1
        members = [
            Member(
                w.info.worker_id,
                w.info.role,
                WorkerState.STARTING if w.info.worker_id in starting else WorkerState.READY,
                None if w.info.worker_id in starting else w.info,
                "loading weights" if w.info.worker_id in starting else "",
            )
            for w in self.workers
        ]
        row = RouterRow(RouterId("router-0"), WorkerState.READY, None, "", 0, None)
        self.router.set_view(ClusterView(self._version, tuple(members)), (row,), self.scaling)

    async def _report(self) -> None:
        """Who is silent is taken for lost."""
        while True:
            for worker in self.workers:
                for link in worker.links[-1:]:
                    load = self.loads.get(worker.info.worker_id, pb.Load())
                    link.push(pb.StepFrame(load=load))
            await asyncio.sleep(_REPORT_S)

    async def ask(self, tokens: int = TOKENS, prompt: str = "Hi", **more: Any) -> httpx.Response:
        body = {"model": "demo", "prompt": prompt, "max_tokens": tokens, **more}
        return await self.client.post("/v1/completions", json=body)

    async def metrics(self) -> dict[str, float]:
        """The samples of `/metrics`, by name and labels as written there."""
        text = (await self.client.get("/metrics")).text
        rows = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in rows}


def _worker(name: str, role: Role) -> FakeWorker:
    return FakeWorker(_answer, worker_id=name, role=role, dispatch=Dispatch.SEQUENTIAL)


def _answer(submit: pb.Submit) -> Iterable[pb.StepFrame]:
    """A prompt is computed at once, an answer has `TOKENS` tokens, one in each frame."""
    if submit.kind == pb.LEG_PREFILL:
        done = pb.Prefilled(leg_id=submit.leg_id, handed=b"handed by the fake")
        yield pb.StepFrame(prefilled=[done])
        return
    yield pb.StepFrame(prefilled=[pb.Prefilled(leg_id=submit.leg_id)])
    for step in _steps(submit.leg_id):
        yield pb.StepFrame(outputs=encode(step))


def _steps(leg_id: str) -> Iterator[EngineCoreOutputs]:
    for index in range(TOKENS):
        last = index == TOKENS - 1
        output = EngineCoreOutput(leg_id, [300 + index])
        output.finish_reason = FinishReason.LENGTH if last else None
        yield EngineCoreOutputs(outputs=[output], timestamp=1.0)
