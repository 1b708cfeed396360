"""A worker for `benchmarks.api` that computes nothing: steps are played, at a pace or without one.

Streams that are asked for together begin together: the first step is taken once all are there. It
speaks the worker protocol of real ones, and serves clients that come with a grant. Steps are
encoded once per change of who takes part, so that it costs next to nothing beside what is measured.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import grpc
import msgspec
from baton_client.v1 import service_pb2 as rpc
from baton_client.v1 import service_pb2_grpc as rpc_grpc

from baton.ids import WorkerId
from baton.messages import Dispatch, Role, WorkerInfo
from baton.wire import worker_pb2 as pb
from baton.wire import worker_pb2_grpc as pb_grpc
from baton.wire.batch import each

HEARTBEAT_S = 0.2
PARAMS, _FIELDS, _FINISH, _NANS, _LENGTH = 3, 18, 5, 13, 1
"""Where vLLM has the sampling parameters of a request, and the fields of an output."""
WORDS = (302, 315, 330, 341, 365, 388, 400, 421)
"""Tokens of the demo model that are text by themselves."""


@dataclass(frozen=True, slots=True)
class Play:
    """How steps are played: so many seconds apart, none before so many answers are asked for."""

    pace_s: float = 0.0
    streams: int = 1


class Stage:
    """What is played to all routers, and whether it has begun."""

    def __init__(self) -> None:
        self.play = Play()
        self.begun = False
        self.routers: list[_Router] = []

    def came(self) -> None:
        """There is an answer more."""
        if self.begun or sum(router.asked for router in self.routers) >= self.play.streams:
            self.begun = True
            for router in self.routers:
                # The others' frames would be in somebody's way.
                if router.asked:
                    router.wake()

    def ended(self) -> None:
        """There are some fewer."""
        self.begun = self.begun and any(router.asked for router in self.routers)


_DIRECT_TOKENS = 16
"""In one message to a client, where steps come without a pause."""


class _Direct(rpc_grpc.DirectServicer):
    """Answers that are read here; their routers hear of the beginning and of the end."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._open: dict[bytes, tuple[_Router, str, int]] = {}

    def expect(self, router: _Router, submit: pb.Submit, tokens: int) -> None:
        """Somebody will come for this answer."""
        self._open[submit.direct.grant] = router, submit.leg_id, tokens

    async def Stream(self, request: rpc.StreamRequest, context: Any) -> None:  # type: ignore[override] # noqa: N802
        router, leg_id, tokens = self._open.pop(request.grant)
        left = tokens
        while left:
            pace_s = self._stage.play.pace_s
            count = min(left, 1 if pace_s else _DIRECT_TOKENS)
            left -= count
            ids = (list(WORDS) * count)[:count]
            delta = rpc.Delta(text="word " * count, tokens=count, token_ids=ids)
            delta.finish_reason = rpc.FINISH_REASON_LENGTH if left == 0 else 0  # type: ignore[assignment]
            await context.write(rpc.GenerateResponse(deltas=[delta]))
            await asyncio.sleep(pace_s)
        if tokens > 1:
            rest = (list(WORDS) * tokens)[: tokens - 1]
            router.tell(output_of(leg_id, rest, True))
            router.wake()


class _Router:
    """One router's link: its legs, and the steps that they take together."""

    def __init__(self, stage: Stage, direct: _Direct) -> None:
        self._stage = stage
        self._direct = direct
        self._prefilled: list[pb.Prefilled] = []
        self._outputs: list[list[Any]] = []
        """Both of answers that go past it."""
        self.left: dict[str, int] = {}
        self._opening: dict[str, bool] = {}
        """Answers that go past it and have not begun, and whether their first token is the last."""
        self._steps: list[list[bytes]] = []
        self._came = asyncio.Event()
        self._number = 0

    @property
    def asked(self) -> int:
        """Its answers that steps are for."""
        return len(self.left) + len(self._opening)

    def hear(self, message: pb.RouterMessage) -> None:
        """A leg more, or some fewer."""
        kind = message.WhichOneof("message")
        if kind == "submit":
            request = msgspec.msgpack.decode(message.submit.request[0])
            tokens = request[PARAMS]["max_tokens"]
            if message.submit.HasField("direct"):
                self._direct.expect(self, message.submit, tokens)
                self._opening[message.submit.leg_id] = tokens == 1
            else:
                self.left[message.submit.leg_id] = tokens
            self._stage.came()
        elif kind == "abort":
            for leg_id in message.abort.leg_ids:
                self.left.pop(leg_id, None)
                self._opening.pop(leg_id, None)
            self._stage.ended()
        self._steps.clear()

    def tell(self, output: list[Any], *prefilled: pb.Prefilled) -> None:
        """An answer that goes past it has begun, or is whole."""
        self._outputs.append(output)
        self._prefilled += prefilled

    def _open(self) -> None:
        for leg_id, last in self._opening.items():
            self.tell(output_of(leg_id, [WORDS[0]], last), pb.Prefilled(leg_id=leg_id))
        self._opening.clear()
        self._stage.ended()

    def wake(self) -> None:
        """There may be something to say."""
        self._came.set()

    async def frames(self) -> AsyncIterator[pb.StepFrame]:
        """Steps while there is work, and a sign of life where there is none."""
        while True:
            # First: what comes while a frame is written is not to be missed.
            self._came.clear()
            steps = self._stage.begun and bool(self.left)
            if self._stage.begun and self._opening:
                self._open()
            if outputs := self._outputs:
                prefilled, self._prefilled, self._outputs = self._prefilled, [], []
                yield self._frame(step_of(outputs), prefilled)
            if steps or not outputs:
                yield self._frame(self._step() if steps else [])
            if steps:
                await asyncio.sleep(self._stage.play.pace_s)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._came.wait()

    def _frame(self, outputs: list[bytes], prefilled: Sequence[pb.Prefilled] = ()) -> pb.StepFrame:
        self._number += 1
        load = pb.Load(running=len(self.left), kv_used=0.1, steps=self._number)
        return pb.StepFrame(sequence=self._number, load=load, outputs=outputs, prefilled=prefilled)

    def _step(self) -> list[bytes]:
        legs = self.left
        for leg_id in legs:
            legs[leg_id] -= 1
        if ended := [leg_id for leg_id, left in legs.items() if left == 0]:
            step = self._encoded(0, ended)
            for leg_id in ended:
                del legs[leg_id]
            self._stage.ended()
            self._steps.clear()
            return step
        if not self._steps:
            self._steps = [self._encoded(word, ()) for word in range(len(WORDS))]
        return self._steps[self._number % len(WORDS)]

    def _encoded(self, word: int, ended: Any) -> list[bytes]:
        last = set(ended)
        return step_of([output_of(leg_id, [WORDS[word]], leg_id in last) for leg_id in self.left])


def step_of(outputs: list[list[Any]]) -> list[bytes]:
    return [msgspec.msgpack.encode((0, outputs, None, 1.0))]


def output_of(leg_id: str, tokens: list[int], last: bool) -> list[Any]:
    """An EngineCoreOutput of vLLM, by the number of its fields."""
    fields: list[Any] = [None] * _FIELDS
    fields[0], fields[1], fields[_NANS] = leg_id, tokens, 0
    fields[_FINISH] = _LENGTH if last else None
    return fields


class _Service(pb_grpc.WorkerServicer):
    def __init__(self, stage: Stage, direct: _Direct) -> None:
        self._stage = stage
        self._direct = direct

    async def Link(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override] # noqa: N802
        router = _Router(self._stage, self._direct)
        self._stage.routers.append(router)
        reader = asyncio.ensure_future(_read(request_iterator, router))
        try:
            async for frame in router.frames():
                await context.write(frame)
        finally:
            reader.cancel()
            self._stage.routers.remove(router)


async def _read(messages: Any, router: _Router) -> None:
    async for message in messages:
        for one in each(message):
            router.hear(one)


def work(pipe: Connection, model: str) -> None:
    """A process: says its WorkerInfo, then plays what it hears until that is None."""
    asyncio.run(_serve(pipe, model))


async def _serve(pipe: Connection, model: str) -> None:
    stage = Stage()
    server = grpc.aio.server()
    # Routers use nothing but the link.
    direct = _Direct(stage)
    service = _Service(stage, direct)  # type: ignore[abstract]
    pb_grpc.add_WorkerServicer_to_server(service, server)
    rpc_grpc.add_DirectServicer_to_server(direct, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    pipe.send(_info(port, model))
    with contextlib.suppress(EOFError):
        while (word := await asyncio.to_thread(pipe.recv)) is not None:
            stage.play = word
            pipe.send("heard")
    await server.stop(0)


def _info(port: int, model: str) -> WorkerInfo:
    return WorkerInfo(
        worker_id=WorkerId("decode-0"),
        incarnation=1,
        role=Role.DECODE,
        address=f"127.0.0.1:{port}",
        config_digest="digest",
        connector="none",
        dispatch=Dispatch.SEQUENTIAL,
        served_model=model,
        max_model_len_tokens=8192,
        block_size_tokens=128,
        kv_blocks=100_000,
        dtype="bfloat16",
        device="cpu",
        vllm_version="0",
        pid=1,
        engine_pid=2,
        direct_address=f"127.0.0.1:{port}",
    )


def work_alone(pipe: Connection, dump: dict[str, Any], _digest: str) -> None:
    """A process in a router's place, without router and worker (`benchmarks.api_alone`)."""
    # Importing it takes as long as importing vLLM, and who starts this has no use for that.
    from benchmarks.api_alone import serve

    serve(pipe, dump)
