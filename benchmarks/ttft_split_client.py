"""A client that costs next to nothing: one connection, one stream at a time, two time stamps."""

from __future__ import annotations

import asyncio
import json
import re
import time
from dataclasses import dataclass
from typing import Any

from benchmarks.stolen import Span
from deploy.model import DEMO_NAME

OUTPUT_TOKENS = 16
_SPLIT = re.compile(rb": x-baton-split ([^\r\n]+)")
_PART = re.compile(r"(\w+);dur=([\d.]+)")
_END = b"0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Seen:
    """One answer: TTFT by the client's clock, and the router's parts, in seconds."""

    ttft_s: float
    parts: dict[str, float]
    sent_at: float = 0.0

    @property
    def gap_s(self) -> float:
        """What the client saw and no part has."""
        return self.ttft_s - sum(self.parts.values())

    @property
    def unexplained(self) -> tuple[Span, Span]:
        """When that can have been: on the way to the router, or on the way back."""
        first_at, gap_s = self.sent_at + self.ttft_s, abs(self.gap_s)
        return (self.sent_at, self.sent_at + gap_s), (first_at - gap_s, first_at)


class Client(asyncio.Protocol):
    """Asks for one stream after the other."""

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self._transport: Any = None
        self._answer = bytearray()
        self._first_at = 0.0
        self._over: asyncio.Future[None] | None = None

    async def connect(self) -> None:
        """Open the connection. Raises OSError."""
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_connection(lambda: self, *self._address)

    def close(self) -> None:
        """Close it."""
        self._transport.close()

    async def ask(self, prompt: str) -> Seen:
        """Stream one answer to its end. Raises RuntimeError for any but a whole stream."""
        message = self._message(prompt)
        self._answer.clear()
        self._first_at = 0.0
        self._over = asyncio.get_running_loop().create_future()
        sent_at = time.monotonic()
        self._transport.write(message)
        await self._over
        found = _SPLIT.search(self._answer)
        if found is None:
            raise RuntimeError(f"no split in {bytes(self._answer[:400])!r}")
        parts = {name: float(ms) / 1e3 for name, ms in _PART.findall(found[1].decode())}
        return Seen(self._first_at - sent_at, parts, sent_at)

    def _message(self, prompt: str) -> bytes:
        body = json.dumps(
            {
                "model": DEMO_NAME,
                "stream": True,
                "temperature": 0,
                "ignore_eos": True,
                "max_tokens": OUTPUT_TOKENS,
                "prompt": prompt,
            }
        )
        head = (
            "POST /v1/completions HTTP/1.1\r\n"
            f"host: {self._address[0]}\r\n"
            "content-type: application/json\r\n"
            "x-baton-split: 1\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        return (head + body).encode()

    def data_received(self, data: bytes) -> None:
        """The first event's bytes are what the client waits for; the headers come before."""
        now = time.monotonic()
        self._answer += data
        if not self._first_at and b"data: " in self._answer:
            self._first_at = now
        if self._over is not None and not self._over.done() and self._answer.endswith(_END):
            self._over.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """The server has closed it."""
        if self._over is not None and not self._over.done():
            self._over.set_exception(RuntimeError(f"the connection was lost: {exc}"))
