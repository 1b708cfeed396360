"""What is due is told once, when it is written, and answers pass through unchanged."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from router.exchange import EXCHANGE, Exchange, Exchanges
from router.split import Part, Span, Split

SPLIT = Split(0.0, (Span(Part.DELIVERY, 0.5),))
STREAM = [(b"content-type", b"text/event-stream; charset=utf-8")]


class Wire:
    """Takes what an application sends."""

    def __init__(self, *, tell: bool = False) -> None:
        self.messages: list[dict[str, Any]] = []
        self.exchange = Exchange(1.0)
        self.settled: list[float | None] = []
        self.send = self.exchange.sending(self._take, tell=tell)

    async def _take(self, message: dict[str, Any]) -> None:
        self.messages.append(message)

    async def start(self, headers: list[tuple[bytes, bytes]]) -> None:
        await self.send({"type": "http.response.start", "status": 200, "headers": list(headers)})

    async def body(self, text: bytes, *, more: bool = True) -> None:
        await self.send({"type": "http.response.body", "body": text, "more_body": more})

    def due(self, split: Split | None = SPLIT) -> None:
        def settle(at: float | None) -> None:
            # It is told after the writing.
            self.settled.append(at if at is None else len(self.messages))
            self.exchange.split = self.exchange.split or split

        self.exchange.when_written(settle)

    @property
    def bodies(self) -> list[bytes]:
        return [m["body"] for m in self.messages if m["type"] == "http.response.body"]


@pytest.mark.parametrize("early", [True, False])
async def test_a_streams_first_chunk_settles_what_is_due(early: bool) -> None:
    wire = Wire()
    if early:
        wire.due()
    await wire.start(STREAM)
    assert wire.settled == []
    if not early:
        wire.due()
    await wire.body(b"a")
    await wire.body(b"b")
    wire.due()
    await wire.body(b"", more=False)
    assert wire.settled == [2, 4]
    assert wire.bodies == [b"a", b"b", b""]


async def test_a_chunk_is_written_when_the_loops_turn_is_over() -> None:
    wire = Wire()
    await wire.start(STREAM)
    wire.due()
    turns: list[str] = []
    asyncio.get_running_loop().call_soon(turns.append, "another's")
    wire.exchange.when_written(lambda _at: turns.append("written"))
    await wire.body(b"a")
    assert turns == ["another's", "written"]


async def test_whoever_asks_gets_a_comment_after_the_first_token() -> None:
    wire = Wire(tell=True)
    await wire.start(STREAM)
    await wire.body(b"before")
    for chunk in (b"a", b"b"):
        wire.due()
        await wire.body(chunk)
    comment = f": x-baton-split {SPLIT.header()}\n\n".encode()
    assert wire.bodies == [b"before", b"a", comment, b"b"]


async def test_no_comment_follows_the_end() -> None:
    wire = Wire(tell=True)
    await wire.start(STREAM)
    wire.due()
    await wire.body(b"a", more=False)
    assert wire.bodies == [b"a"]


@pytest.mark.parametrize("tell", [True, False])
async def test_an_answer_in_one_piece_settles_before_its_headers(tell: bool) -> None:
    wire = Wire(tell=tell)
    wire.due()
    await wire.start([(b"content-type", b"application/json")])
    assert wire.settled == [None]
    headers = dict(wire.messages[0]["headers"])
    assert (headers.get(b"x-baton-split") == SPLIT.header().encode()) == tell
    await wire.body(b"{}", more=False)
    assert wire.bodies == [b"{}"]


async def test_without_a_split_there_is_no_header() -> None:
    wire = Wire(tell=True)
    await wire.start([])
    assert wire.messages[0]["headers"] == []


@pytest.mark.parametrize(("method", "known"), [("POST", 5.0), ("POST", None), ("GET", 5.0)])
async def test_the_server_says_when_a_request_came(method: str, known: float | None) -> None:
    seen: list[Exchange | None] = []

    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        seen.append(EXCHANGE.get())

    scope = {"type": "http", "method": method, "headers": [], "baton.arrived_at": known}
    before = time.monotonic()
    await Exchanges(app)(scope, None, None)
    (exchange,) = seen
    if method == "GET":
        assert exchange is None
    else:
        assert exchange is not None
        earliest, latest = (before, time.monotonic()) if known is None else (known, known)
        assert earliest <= exchange.arrived_at <= latest
