"""Answers that clients read from this worker itself: who may read which, and when they end.

A stream begins with its leg. Whoever shows its grant takes it, once; it is gone when its answer is
read, or nobody reads it. What waits for a slow reader is at most one answer, and the engine never
waits for one.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from baton.clock import Clock
from baton.errors import BatonError, Reason
from baton.wire import worker_pb2 as wire
from engine.ports import Output, Request

_log = logging.getLogger("baton.worker")
GRANT_BYTES_MIN = 16
TAKEN_WITHIN_S = 10.0
"""From the first token on; after this nobody comes."""
TOLD_EVERY_S = 1.0
"""So often the router hears of the tokens, for one that ends early is booked with what it had."""
DEADLINE_SLACK_S = 2.0
"""A request's deadline is its router's to tell; a worker ends what goes on for longer."""

EndLeg = Callable[[str, Reason, str], Awaitable[None]]
"""Ends a leg that runs and tells its router why; unknown legs are ignored."""


class Text(Protocol):
    """One answer as it grows. vLLM stands behind it in `direct_text`, a fake one in tests."""

    logprobs: int | None
    """Of how many of the likeliest tokens at each position; None = none."""

    def add(self, output: Output) -> bool:
        """Take a step's output. Tells whether a stop text in it ends the answer."""

    def told(self, output: Output, *, stopped: bool) -> Output:
        """This output for the router, with all tokens that it has not been told of."""

    def fail(self, error: BatonError) -> None:
        """Nothing more comes: whoever reads it gets this error after what there is."""

    async def next(self) -> Any:
        """What has come since the last call, as one RequestOutput. Raises BatonError."""


Texts = Callable[[Request], Text]
"""Begins an answer. Raises BatonError where it cannot be told as text."""


@dataclass(slots=True, eq=False)
class DirectStream:
    """One answer on its way to a client. Times in seconds of the worker's clock."""

    leg_id: str
    key: bytes
    text: Text
    expires_at: float
    take_by: float | None = None
    """Until when somebody has to come; None before its first token."""
    told_at: float = 0.0
    """When its router heard of its tokens."""
    taken: bool = False
    over: bool = False
    """Nothing more is added."""

    def add(self, output: Output, now: float, *, ended: bool) -> tuple[Output | None, bool]:
        """Take a step's output: what the router is told of it, and whether a stop text ends it.

        Raises BatonError INTERNAL where its text cannot be told: it is of no use from then on.
        """
        try:
            return self._add(output, now, ended=ended)
        except Exception as error:
            _log.exception("fault in a text", extra={"leg": self.leg_id})
            raise _untold() from error

    def _add(self, output: Output, now: float, *, ended: bool) -> tuple[Output | None, bool]:
        stopped = self.text.add(output) and not ended
        first, self.over = self.take_by is None, ended or stopped
        if first:
            self.take_by = now + TAKEN_WITHIN_S
        if not (first or self.over or now >= self.told_at + TOLD_EVERY_S):
            return None, stopped
        self.told_at = now
        return self.text.told(output, stopped=stopped), stopped

    def overdue(self, now: float) -> bool:
        """Whether nobody has come in time, or its end is past."""
        unread = not self.taken and self.take_by is not None and now > self.take_by
        return unread or now > self.expires_at


@dataclass(slots=True)
class DirectStreams:
    """Those of one worker. `texts` None = it has no port for clients, and takes no such legs."""

    clock: Clock
    texts: Texts | None
    end_leg: EndLeg
    _streams: dict[bytes, DirectStream] = field(default_factory=dict)
    _idle: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._idle.set()

    def open(self, submit: wire.Submit, request: Request) -> DirectStream | None:
        """The stream of a leg, if its router wants one. Raises BatonError."""
        if not submit.HasField("direct"):
            return None
        direct, key = submit.direct, _key(submit.direct.grant)
        if self.texts is None:
            raise BatonError(Reason.UNSUPPORTED, "this worker serves no clients")
        if len(direct.grant) < GRANT_BYTES_MIN or key in self._streams:
            raise BatonError(Reason.INVALID_REQUEST, "the grant is too short, or given already")
        expires_at = self.clock.now() + direct.deadline_s + DEADLINE_SLACK_S
        stream = DirectStream(submit.leg_id, key, self._text(self.texts, request), expires_at)
        self._streams[key] = stream
        self._idle.clear()
        return stream

    @staticmethod
    def _text(texts: Texts, request: Request) -> Text:
        try:
            return texts(request)
        except BatonError:
            raise
        except Exception as error:
            _log.exception("fault in a text")
            raise _untold() from error

    def take(self, grant: bytes) -> DirectStream:
        """The stream of a grant. Raises BatonError REQUEST_UNKNOWN if there is none any more."""
        stream = self._streams.get(_key(grant))
        if stream is None or stream.taken:
            raise BatonError(Reason.REQUEST_UNKNOWN, "There is no such stream.", param="grant")
        stream.taken = True
        return stream

    def left_s(self, stream: DirectStream) -> float:
        """Seconds until its answer is dropped."""
        return max(stream.expires_at - self.clock.now(), 0.0)

    def give_up(self, stream: DirectStream | None) -> None:
        """Its leg is gone; unless that was the answer's end, the reader is told so."""
        if stream is None or stream.over:
            return
        stream.over = True
        stream.text.fail(BatonError(Reason.WORKER_LOST, "The answer ends early on this worker."))
        if not stream.taken:
            self._forget(stream)

    async def left(
        self, stream: DirectStream, why: str = "its reader left the stream", *, late: bool = False
    ) -> None:
        """Nobody reads on: at the end of the answer, or before, which ends its leg.

        `late`: because the request's deadline has passed.
        """
        self._forget(stream)
        if not stream.over:
            reason = Reason.DEADLINE_EXCEEDED if late else Reason.CANCELLED
            await self.end_leg(stream.leg_id, reason, "its deadline has passed" if late else why)

    async def sweep(self) -> None:
        """End those that nobody reads in time; call it each second."""
        now = self.clock.now()
        for stream in [one for one in self._streams.values() if one.overdue(now)]:
            if not stream.over:
                late = now > stream.expires_at
                await self.left(stream, "nobody read it in time", late=late)
            elif not stream.taken:
                self._forget(stream)

    def _forget(self, stream: DirectStream) -> None:
        self._streams.pop(stream.key, None)
        if not self._streams:
            self._idle.set()

    @property
    def unread(self) -> int:
        """Answers that are over and not read to their end."""
        return sum(stream.over for stream in self._streams.values())

    async def idle(self) -> None:
        """Returns once nobody reads here and nobody is waited for."""
        await self._idle.wait()


def _untold() -> BatonError:
    return BatonError(Reason.INTERNAL, "The worker cannot tell this answer as text.")


def _key(grant: bytes) -> bytes:
    # So that the time of a look-up tells nothing of a grant that is known.
    return hashlib.sha256(grant).digest()
