"""The gRPC connection to one worker: requests down, step frames up, reconnecting until closed.

The one file of the router's core that knows gRPC. Knows nothing of requests: it moves messages,
notices that the other end is gone, and says so once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import grpc

from baton.messages import WorkerInfo
from baton.tasks import TaskFault, Tasks
from baton.wire import worker_pb2 as pb
from baton.wire import worker_pb2_grpc as pb_grpc
from baton.wire.batch import joined
from baton.wire.credentials import Dial, dial
from router.wire import Connect, Identity, LinkEvents, LinkPort, hello_message

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LinkLimits:
    """Bounds of a connection. The wait before a reconnect doubles, and starts anew once up."""

    queued_messages_max: int = 16_384
    message_bytes_max: int = 64 * 1024 * 1024
    backoff_s: float = 0.05
    backoff_max_s: float = 2.0
    keepalive_s: float = 10.0
    """Seconds of silence after which the other host is asked whether it is there."""
    keepalive_timeout_s: float = 5.0


_LIMITS = LinkLimits()
_TOGETHER_BYTES = 1024 * 1024
"""What is beyond this waits for the next message."""
_Call: TypeAlias = "grpc.aio.StreamStreamCall[pb.RouterMessage, pb.StepFrame]"


class _BrokenError(Exception):
    """The link is unusable, for the reason given."""


class _Stream:
    """One connection: a hello and what was sent go down in order, frames come up."""

    def __init__(self, identity: Identity, limits: LinkLimits) -> None:
        self._queue: asyncio.Queue[pb.RouterMessage | None] = asyncio.Queue(
            limits.queued_messages_max
        )
        """None: there is nobody to send to any more."""
        self._queue.put_nowait(hello_message(identity))
        self._call: _Call | None = None
        self._overflowed = False
        self._sequence = 0

    @property
    def is_up(self) -> bool:
        """Whether the worker has answered."""
        return self._sequence > 0

    def send(self, message: pb.RouterMessage) -> None:
        """Queues a message. Breaks the connection when there is no room."""
        try:
            self._queue.put_nowait(message)
        except asyncio.QueueFull:
            self._overflowed = True
            if self._call is not None:
                self._call.cancel()

    async def frames(self, stub: pb_grpc.WorkerStub) -> AsyncGenerator[pb.StepFrame, None]:
        """Frames in unbroken order until the worker ends the stream. Raises _BrokenError."""
        call = self._call = self._open(stub)
        try:
            async for frame in call:
                self._expect(frame.sequence)
                yield frame
        except grpc.aio.AioRpcError as error:
            raise _BrokenError(f"{error.code().name}: {error.details()}") from error
        except asyncio.CancelledError:
            # gRPC reports our own cancellation of the call like one of this task.
            if self._overflowed and not _is_cancelled():
                raise _BrokenError("the worker reads too slowly") from None
            raise
        finally:
            call.cancel()
            # Whoever waits for messages would be destroyed in it. On a full queue nobody waits.
            with contextlib.suppress(asyncio.QueueFull):
                self._queue.put_nowait(None)

    def _open(self, stub: pb_grpc.WorkerStub) -> _Call:
        # The stub's types know blocking channels only.
        link = cast(Callable[[AsyncIterator[pb.RouterMessage]], _Call], stub.Link)
        return link(self._messages())

    def _expect(self, sequence: int) -> None:
        if sequence != self._sequence + 1:
            raise _BrokenError(f"frame {sequence} came after frame {self._sequence}")
        self._sequence = sequence

    async def _messages(self) -> AsyncIterator[pb.RouterMessage]:
        # Each one written takes some turns of the event loop, and those of a busy one are long.
        more = True
        while more and (first := await self._queue.get()) is not None:
            waiting = [first]
            more = self._take(waiting)
            yield joined(waiting)

    def _take(self, waiting: list[pb.RouterMessage]) -> bool:
        """Adds what waits as well; False where nothing is to follow."""
        room = _TOGETHER_BYTES - waiting[0].ByteSize()
        while room > 0 and not self._queue.empty():
            message = self._queue.get_nowait()
            if message is None:
                return False
            waiting.append(message)
            room -= message.ByteSize()
        return True


class WorkerLink:
    """Implements `router.wire.LinkPort`. Connects at once; belongs to the running event loop."""

    def __init__(
        self,
        info: WorkerInfo,
        identity: Identity,
        events: LinkEvents,
        limits: LinkLimits = _LIMITS,
        dial: Dial = dial,
    ) -> None:
        self._info = info
        self._dial = dial
        self._identity = identity
        self._events = events
        self._limits = limits
        self._stream: _Stream | None = None
        self._closing = False
        self._tasks = Tasks(f"link {info.worker_id}")
        self._start(after_s=0)

    def send(self, message: pb.RouterMessage) -> None:
        """See `LinkPort`. More than `queued_messages_max` unsent messages break the link."""
        if self._stream is not None and self._stream.is_up:
            self._stream.send(message)

    def aclose(self) -> Coroutine[Any, Any, None]:
        """See `LinkPort`. May be called again."""
        self._closing = True
        return self._close()

    async def _close(self) -> None:
        await self._tasks.aclose()

    def _start(self, after_s: float) -> None:
        run = self._run(after_s)
        self._tasks.spawn(run, "run", eternal=True, on_fault=self._on_fault)

    def _on_fault(self, fault: TaskFault) -> None:
        # Whoever hears the frames has raised: these legs are lost, later ones need not be.
        self._tell_lost(f"fault in the router: {fault.error}")
        self._start(after_s=self._limits.backoff_max_s)

    async def _run(self, after_s: float) -> None:
        await asyncio.sleep(after_s)
        backoff_s = self._limits.backoff_s
        while True:
            was_up, why = await self._connection()
            if was_up:
                backoff_s = self._limits.backoff_s
                self._tell_lost(why)
            else:
                _log.debug("no link to worker %s yet: %s", self._info.worker_id, why)
            await asyncio.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, self._limits.backoff_max_s)

    async def _connection(self) -> tuple[bool, str]:
        """One connection from its start to its end: whether it was up, and why it ended."""
        stream = self._stream = _Stream(self._identity, self._limits)
        options = _options(self._limits)
        try:
            async with self._dial(self._info.address, options) as channel:
                await self._read(stream.frames(pb_grpc.WorkerStub(channel)))
        except _BrokenError as error:
            return stream.is_up, str(error)
        finally:
            self._stream = None
        return stream.is_up, "the worker ended the stream"

    async def _read(self, frames: AsyncGenerator[pb.StepFrame, None]) -> None:
        async with aclosing(frames):
            async for frame in frames:
                self._tell_frame(frame)

    def _tell_frame(self, frame: pb.StepFrame) -> None:
        if not self._closing:
            self._events.on_frame(self._info.worker_id, frame)

    def _tell_lost(self, why: str) -> None:
        if not self._closing:
            self._events.on_link_lost(self._info.worker_id, why)


def connector(identity: Identity, limits: LinkLimits = _LIMITS) -> Connect:
    """What opens links for a heart of this identity."""

    def connect(info: WorkerInfo, events: LinkEvents) -> LinkPort:
        return WorkerLink(info, identity, events, limits)

    return connect


def _options(limits: LinkLimits) -> list[tuple[str, str | int]]:
    return [
        ("grpc.max_send_message_length", limits.message_bytes_max),
        ("grpc.max_receive_message_length", limits.message_bytes_max),
        ("grpc.keepalive_time_ms", round(1000 * limits.keepalive_s)),
        ("grpc.keepalive_timeout_ms", round(1000 * limits.keepalive_timeout_s)),
        ("grpc.http2.max_pings_without_data", 0),
        # Else a worker that comes back is refused for as long as an old channel backs off.
        ("grpc.use_local_subchannel_pool", 1),
        # A proxy from the environment has no business between router and worker.
        ("grpc.enable_http_proxy", 0),
    ]


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
