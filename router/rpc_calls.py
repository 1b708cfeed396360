"""The shell around each call of the gRPC service: who calls, the knock, the message, the errors.

Every method is served as a stream of bytes, which is the same on the wire: so a call can be refused
before its message is read, and a message that cannot be read has a typed answer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from baton.errors import BatonError, Reason
from router.access import OPEN, Access, tell
from router.caller import CALLER
from router.caller_headers import Knock
from router.exchange import EXCHANGE, Exchange
from router.front import FrontError
from router.rpc_caller import caller_of_call, timed
from router.rpc_errors import code_of, trailers_of, words_of

_log = logging.getLogger(__name__)

_M = TypeVar("_M", bound=Message)
Handler: TypeAlias = "grpc.RpcMethodHandler[bytes, bytes]"


@dataclass(frozen=True, slots=True)
class Call(Generic[_M]):
    """One call whose message is read."""

    request: _M
    exchange: Exchange
    write: Callable[[bytes], Awaitable[None]]
    """Sends one serialized message; returns when the transport has taken it."""


@dataclass(frozen=True, slots=True)
class Method(Generic[_M]):
    """One method of a service. `knocks`: it asks for tokens, and is refused unread."""

    request: type[_M]
    serve: Callable[[Call[_M]], Awaitable[None]]
    knocks: bool = False


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is let in at most."""

    message_bytes: int
    calls: int
    """At the same time, in one router."""
    retry_after_s: float = 1.0
    read_within_s: float = 60.0
    """A call's message comes within this, or not at all."""


class Calls:
    """All calls of one service. Belongs to one event loop."""

    def __init__(self, knock: Knock, bounds: Bounds, access: Access = OPEN) -> None:
        self._knock = knock
        self._bounds = bounds
        self._access = access
        self._running: set[asyncio.Task[Any]] = set()
        self._cut = False

    @property
    def running(self) -> int:
        """Calls under way."""
        return len(self._running)

    def cut(self) -> None:
        """Ends them, and all that come, with DRAINING."""
        self._cut = True
        for task in self._running:
            task.cancel()

    def handler(self, method: Method[Any]) -> Handler:
        """How gRPC calls it."""

        async def serve(_messages: Any, context: Any) -> None:
            exchange, task = Exchange(time.monotonic()), asyncio.current_task()
            assert task is not None
            self._running.add(task)
            try:
                await self._typed(method, context, exchange)
            except BatonError as error:
                await context.abort(code_of(error), words_of(error), trailers_of(error))
            finally:
                self._running.discard(task)

        handler: Handler = grpc.stream_stream_rpc_method_handler(serve)
        return handler

    async def _typed(self, method: Method[Any], context: Any, exchange: Exchange) -> None:
        """Raises nothing but BatonError, and CancelledError where the client has gone."""
        try:
            await self._serve(method, context, exchange)
        except FrontError as refused:
            raise refused.error from refused
        except BatonError:
            raise
        except asyncio.CancelledError as error:
            if not self._cut:
                raise
            raise self._stops() from error
        except grpc.aio.BaseError as error:
            raise asyncio.CancelledError from error
        except Exception as error:
            _log.exception("fault in a call")
            raise BatonError(Reason.INTERNAL, "The router failed.") from error

    async def _serve(self, method: Method[Any], context: Any, exchange: Exchange) -> None:
        if self._cut:
            raise self._stops()
        if self.running > self._bounds.calls:
            raise BatonError(
                Reason.QUEUE_FULL,
                "The router has too many calls.",
                retry_after_s=self._bounds.retry_after_s,
            )
        try:
            caller = caller_of_call(context, self._access)
        except BatonError as error:
            kind = method.request.DESCRIPTOR.full_name
            tell("call refused", error, client=context.peer(), message_type=kind)
            raise
        with ExitStack() as stack:
            if method.knocks:
                caller = caller._replace(door_pass=stack.enter_context(self._knock(caller)))
            CALLER.set(caller)
            EXCHANGE.set(exchange)
            request = await self._read(context, method.request)
            # The message took its time.
            CALLER.set(timed(caller, context))
            await method.serve(Call(request, exchange, context.write))

    def _stops(self) -> BatonError:
        after_s = self._bounds.retry_after_s
        return BatonError(Reason.DRAINING, "The router stops.", retry_after_s=after_s)

    async def _read(self, context: Any, kind: type[_M]) -> _M:
        try:
            async with asyncio.timeout(self._bounds.read_within_s):
                raw = await context.read()
        except TimeoutError as error:
            raise BatonError(Reason.DEADLINE_EXCEEDED, "The message did not come.") from error
        if not isinstance(raw, bytes):
            raise BatonError(Reason.INVALID_REQUEST, "The call has no message.")
        if len(raw) > self._bounds.message_bytes:
            most = self._bounds.message_bytes
            raise BatonError(Reason.BODY_TOO_LARGE, f"The message is larger than {most} bytes.")
        try:
            return kind.FromString(raw)
        except DecodeError as error:
            raise BatonError(
                Reason.INVALID_REQUEST, f"The message is no {kind.DESCRIPTOR.full_name}."
            ) from error
