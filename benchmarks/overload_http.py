"""A client that costs next to nothing: it shares two cores with the router that it measures.

HTTP/1.1 over few connections that are used again and again, knowing just the answers that can come:
a stream of server-sent events, or a body of known length.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from typing import Any

from benchmarks.load import StreamTimes
from benchmarks.overload_plan import OUTPUT_TOKENS, Arrival
from benchmarks.overload_result import End, Outcome
from deploy.model import DEMO_NAME

IDLE_MAX_S = 30.0
"""The router closes what is idle for longer than this by far."""
_TAIL_BYTES = 64
"""More than any of the words that are looked for: they may come in two pieces."""
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_REASON = re.compile(rb"\r\nx-baton-reason: *(\S+)", re.IGNORECASE)
_CODE = re.compile(rb'"code": ?"?(\w+)')


def message(host: str, tenant: str, prompt: str) -> bytes:
    """A request for a stream, complete. `prompt` needs no escapes."""
    body = (
        f'{{"model":"{DEMO_NAME}","stream":true,"temperature":0,"ignore_eos":true,'
        f'"max_tokens":{OUTPUT_TOKENS},"prompt":"{prompt}"}}'
    )
    head = (
        f"POST /v1/completions HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
        f"x-baton-tenant: {tenant}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return (head + body).encode()


class Answer:
    """One answer as it comes in. Times are readings of the caller's clock."""

    def __init__(self) -> None:
        self.status = 0
        self.reason = ""
        self.first_at = 0.0
        """When the first token came."""
        self.whole = False
        """Whether its last token came."""
        self._head = b""
        self._left = 0
        self._tail = b""

    def feed(self, data: bytes, now: float) -> bool:
        """Takes what came; True once the answer is complete."""
        if not self.status:
            head, found, data = (self._head + data).partition(b"\r\n\r\n")
            if not found:
                self._head = head
                return False
            self._read_head(head)
        return self._stream(data, now) if self.status == 200 else self._body(data)

    def _read_head(self, head: bytes) -> None:
        self.status = int(head[9:12])
        length, reason = _LENGTH.search(head), _REASON.search(head)
        self._left = int(length[1]) if length else 0
        self.reason = reason[1].decode() if reason else ""

    def _body(self, data: bytes) -> bool:
        self._left -= len(data)
        return self._left <= 0

    def _stream(self, data: bytes, now: float) -> bool:
        text = self._tail + data
        if not self.first_at and b"data: {" in text:
            self.first_at = now
        self.whole = self.whole or b'"finish_reason":"length"' in text
        if b'data: {"error"' in text:
            code = _CODE.search(text)
            self.reason = f"stream: {code[1].decode() if code else 'unknown'}"
        self._tail = text[-_TAIL_BYTES:]
        return text.endswith(b"0\r\n\r\n")


Done = Callable[[Outcome], None]


class Exchange:
    """One request on its way: what was asked when, and what has come of it so far."""

    def __init__(self, arrival: Arrival, phase_at: float, done: Done) -> None:
        self._arrival = arrival
        self._done = done
        self._sent_at = time.perf_counter()
        self._sent_s = self._sent_at - phase_at
        self._answer = Answer()

    def feed(self, data: bytes) -> bool:
        """Takes what came; True once it is over."""
        now = time.perf_counter()
        over = self._answer.feed(data, now)
        if over:
            self._done(self._outcome(now))
        return over

    def given_up(self) -> None:
        """The client does not wait for its end."""
        self._done(self._as(End.UNFINISHED, time.perf_counter() - self._sent_at))

    def lost(self, why: str) -> None:
        """There is nothing more to come."""
        end = End.BROKEN if self._answer.status == 200 else End.FAILED
        self._done(self._as(end, time.perf_counter() - self._sent_at, reason=why))

    def _outcome(self, now: float) -> Outcome:
        answer, took_s = self._answer, now - self._sent_at
        if answer.status == 429:
            return self._as(End.REFUSED, took_s, reason=answer.reason or "none given")
        if answer.status != 200:
            return self._as(End.FAILED, took_s, reason=f"{answer.status} {answer.reason}")
        if not answer.whole:
            return self._as(End.BROKEN, took_s, reason=answer.reason or "without its last token")
        times = StreamTimes(answer.first_at - self._sent_at, took_s, OUTPUT_TOKENS)
        return self._as(End.ANSWERED, took_s, times=times)

    def _as(
        self, end: End, took_s: float, reason: str = "", times: StreamTimes | None = None
    ) -> Outcome:
        asked = self._arrival
        return Outcome(
            tenant=asked.tenant,
            end=end,
            prompt_tokens=asked.prompt_tokens,
            sent_s=self._sent_s,
            late_s=self._sent_s - asked.at_s,
            took_s=took_s,
            ttft_s=times.ttft_s if times else 0.0,
            tpot_s=times.tpot_s if times else 0.0,
            reason=reason,
        )


class _Connection(asyncio.Protocol):
    """Carries one exchange after the other."""

    def __init__(self, pool: Connections) -> None:
        self._pool = pool
        self._exchange: Exchange | None = None
        self.transport: Any = None
        self.idle_since = 0.0

    def connection_made(self, transport: Any) -> None:
        # No `asyncio.Transport`: uvloop's only looks like one.
        self.transport = transport

    def ask(self, exchange: Exchange, message: bytes) -> None:
        self._exchange = exchange
        self.transport.write(message)

    def data_received(self, data: bytes) -> None:
        if self._exchange is not None and self._exchange.feed(data):
            self._exchange = None
            self._pool.back(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.gone(self)
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.lost("the connection was lost")

    def cut(self) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.given_up()
        self.transport.abort()


class Connections:
    """Those to one server; as many as there are requests at one time."""

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self._idle: list[_Connection] = []
        self._all: set[_Connection] = set()

    async def stock(self, count: int) -> None:
        """Have so many that are idle, so that few requests wait for one."""
        while len(self._idle) < count:
            self.back(await self._new())

    async def ask(self, exchange: Exchange, message: bytes) -> None:
        """Send it, and do not wait for the answer. Raises OSError if the server takes nobody."""
        connection = self._taken() or await self._new()
        connection.ask(exchange, message)

    def _taken(self) -> _Connection | None:
        oldest = time.perf_counter() - IDLE_MAX_S
        while self._idle:
            connection = self._idle.pop()
            if connection.idle_since >= oldest:
                return connection
            connection.cut()
        return None

    async def _new(self) -> _Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: _Connection(self), *self._address)
        self._all.add(connection)
        return connection

    def back(self, connection: _Connection) -> None:
        """It is free for the next one."""
        connection.idle_since = time.perf_counter()
        self._idle.append(connection)

    def gone(self, connection: _Connection) -> None:
        """It is closed."""
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def cut(self) -> None:
        """Give up every request under way, and close all."""
        for connection in list(self._all):
            connection.cut()
