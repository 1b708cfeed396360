"""A worker without an engine, on a real loopback socket, for tests of whatever talks to workers.

It records what it is told, answers the life signs a worker gives, and misbehaves on request.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import grpc

from baton.ids import WorkerId
from baton.messages import Dispatch, Role, WorkerInfo
from baton.wire import worker_pb2 as pb
from baton.wire import worker_pb2_grpc as pb_grpc
from baton.wire.batch import each

DIGEST = "digest-1"

Answer = Callable[[pb.Submit], Iterable[pb.StepFrame]]
"""The frames that answer a submit, in order; sequence numbers are set when they are sent."""


def refuse(reason: str, message: str = "refused", retry_after_s: float = 0.0) -> Answer:
    """Ends every leg at once."""

    def answer(submit: pb.Submit) -> Iterable[pb.StepFrame]:
        yield pb.StepFrame(
            ended=[
                pb.Ended(
                    leg_id=submit.leg_id,
                    reason=reason,
                    message=message,
                    retry_after_s=retry_after_s,
                )
            ]
        )

    return answer


def serve(outputs: Callable[[pb.Submit], Iterable[Sequence[bytes]]]) -> Answer:
    """Prefill legs report that they are done; others give one frame per item of `outputs`.

    `outputs` gives, for a submit, the encoded EngineCoreOutputs of each step.
    """

    def answer(submit: pb.Submit) -> Iterable[pb.StepFrame]:
        if submit.kind == pb.LEG_PREFILL:
            done = pb.Prefilled(leg_id=submit.leg_id, handed=b"handed by the fake")
            yield pb.StepFrame(prefilled=[done])
            return
        for buffers in outputs(submit):
            yield pb.StepFrame(outputs=buffers)

    return answer


def stay_silent(_submit: pb.Submit) -> Iterable[pb.StepFrame]:
    """Takes legs and never says a word about them."""
    return ()


@dataclass(eq=False)
class FakeLink:
    """One router's connection, as the worker has it."""

    hello: pb.Hello
    submits: list[pb.Submit] = field(default_factory=list)
    aborts: list[str] = field(default_factory=list)
    together: list[int] = field(default_factory=list)
    """How many messages came as one, each time."""
    sequence: int = 0
    frames: asyncio.Queue[pb.StepFrame | None] = field(default_factory=asyncio.Queue)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    def push(self, frame: pb.StepFrame | None = None, *, skip: int = 0) -> None:
        """Sends a frame, by default one with load only. `skip` leaves out so many before it."""
        numbered = pb.StepFrame()
        numbered.CopyFrom(pb.StepFrame(load=pb.Load()) if frame is None else frame)
        if not numbered.HasField("load"):
            numbered.load.CopyFrom(pb.Load(running=len(self.submits)))
        self.sequence += 1 + skip
        numbered.sequence = self.sequence
        self.frames.put_nowait(numbered)

    def end(self) -> None:
        """Ends the stream from the worker's side, without an error."""
        self.frames.put_nowait(None)


class FakeWorker(pb_grpc.WorkerServicer):
    """Listens on 127.0.0.1 at a free port while it is entered as a context."""

    def __init__(
        self,
        answer: Answer = stay_silent,
        *,
        worker_id: str = "worker-0",
        role: Role = Role.DECODE,
        dispatch: Dispatch = Dispatch.SEQUENTIAL,
    ) -> None:
        self.answer = answer
        self.step_s = 0.0
        """Pause before each frame of an answer: a slow engine."""
        self.greet = True
        """Whether a new link gets a first frame, as real workers send."""
        self.reads = True
        """False: never reads a message after the hello."""
        self.refuses_with: grpc.StatusCode | None = None
        """Set: new links are refused with this status."""
        self.links: list[FakeLink] = []
        self._worker_id = WorkerId(worker_id)
        self._role = role
        self._dispatch = dispatch
        self._port = 0
        self._server: Any = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listens; after a `stop`, at the same port as before."""
        options = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 64 * 2**20)]
        self._server = grpc.aio.server(options=options)
        pb_grpc.add_WorkerServicer_to_server(self, self._server)
        self._port = self._server.add_insecure_port(f"127.0.0.1:{self._port}")
        await self._server.start()

    async def stop(self) -> None:
        """Cuts every link at once."""
        await self._server.stop(None)

    @property
    def info(self) -> WorkerInfo:
        """What the cluster would say of this worker."""
        return WorkerInfo(
            worker_id=self._worker_id,
            incarnation=1,
            role=self._role,
            address=f"127.0.0.1:{self._port}",
            config_digest=DIGEST,
            connector="fake",
            dispatch=self._dispatch,
            served_model="fake",
            max_model_len_tokens=8192,
            block_size_tokens=16,
            kv_blocks=1000,
            dtype="float32",
            device="cpu",
            vllm_version="0",
            pid=0,
            engine_pid=0,
        )

    @property
    def link(self) -> FakeLink:
        """The latest link."""
        return self.links[-1]

    @property
    def submits(self) -> list[pb.Submit]:
        """Everything submitted so far, over all links."""
        return [submit for link in self.links for submit in link.submits]

    @property
    def aborts(self) -> list[str]:
        """Every leg aborted so far, over all links."""
        return [leg_id for link in self.links for leg_id in link.aborts]

    async def Link(self, request_iterator: AsyncIterator[pb.RouterMessage], context: Any) -> None:
        if self.refuses_with is not None:
            await context.abort(self.refuses_with, "refused by the fake")
        link = FakeLink((await anext(request_iterator)).hello)
        self.links.append(link)
        if self.greet:
            link.push()
        if self.reads:
            self._spawn(link, self._read(link, request_iterator))
        try:
            while (frame := await link.frames.get()) is not None:
                await context.write(frame)
        finally:
            for task in link.tasks:
                task.cancel()
            link.closed.set()

    async def Describe(self, request: pb.DescribeRequest, context: Any) -> pb.WorkerDescription:
        return pb.WorkerDescription(worker_id=self._worker_id, config_digest=DIGEST)

    async def Report(self, request: pb.ReportRequest, context: Any) -> pb.WorkerReport:
        return pb.WorkerReport(links=len(self.links), submitted=len(self.submits))

    async def Drain(self, request: pb.DrainRequest, context: Any) -> None:
        await context.write(pb.DrainProgress(done=True))

    async def _read(self, link: FakeLink, messages: AsyncIterator[pb.RouterMessage]) -> None:
        async for message in messages:
            said = each(message)
            link.together.append(len(said))
            for one in said:
                self._hear(link, one)
        link.end()

    def _hear(self, link: FakeLink, message: pb.RouterMessage) -> None:
        link.aborts.extend(message.abort.leg_ids)
        if message.WhichOneof("message") == "submit":
            link.submits.append(message.submit)
            self._spawn(link, self._answer(link, message.submit))

    async def _answer(self, link: FakeLink, submit: pb.Submit) -> None:
        for frame in self.answer(submit):
            await asyncio.sleep(self.step_s)
            if submit.leg_id in link.aborts:
                return
            link.push(frame)

    def _spawn(self, link: FakeLink, work: Any) -> None:
        task = asyncio.create_task(work)
        link.tasks.add(task)
        task.add_done_callback(link.tasks.discard)
