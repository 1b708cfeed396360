"""Clients that leave, read slowly or send too much."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.wire.http.support import BODY_MIB, CHAT, TEXT, House, complete, until

pytestmark = [pytest.mark.wire, pytest.mark.asyncio(loop_scope="session")]


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("stream", [False, True])
async def test_client_that_leaves(house: House, stream: bool, n: int):
    house.heart.script.endless, house.heart.script.delay_s = True, 0.02
    body = {"model": "demo", "prompt": "Hi", "max_tokens": 2000, "stream": stream, "n": n}
    async with httpx.AsyncClient(base_url=house.client.base_url, trust_env=False) as client:
        asking = asyncio.gather(client.post("/v1/completions", json=body))
        await until(lambda: len(house.heart.live) == n and house.heart.sent > 5)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    await until(lambda: not house.heart.live, timeout_s=1)
    assert len(house.heart.aborted) == n


async def test_client_that_leaves_before_the_first_token(house: House):
    house.heart.script.hang = True
    with pytest.raises(httpx.ReadTimeout):
        await house.client.post("/v1/chat/completions", json={"messages": CHAT}, timeout=0.3)
    await until(lambda: not house.heart.live, timeout_s=1)


async def test_slow_reader_holds_one_merged_output(house: House):
    house.heart.script.endless = True
    body = json.dumps({"prompt": "Hi", "max_tokens": 1900, "stream": True})
    head = f"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n"
    head += "content-type: application/json\r\n\r\n"
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(slow, ("127.0.0.1", house.port))
        await loop.sock_sendall(slow, (head + body).encode())
        await until(lambda: house.heart.requests and not house.heart.live, timeout_s=10)
        # The engine has ended; what was not read waits in one collector, not in a queue.
        assert not house.front.unfinished


async def test_large_body_is_accepted_up_to_the_limit(house: House):
    response = await complete(house, user="x" * (10 * 2**20))
    assert response.status_code == 200


@pytest.mark.parametrize("chunked", [False, True])
async def test_larger_body_is_413(house: House, chunked: bool):
    body = b'{"model": "demo", "prompt": "' + b"x" * (BODY_MIB * 2**20) + b'"}'

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 2**16):
            yield body[start : start + 2**16]

    headers = {"content-type": "application/json"}
    content = pieces() if chunked else body
    response = await house.client.post("/v1/completions", content=content, headers=headers)
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "body_too_large"


async def test_chunked_body_is_read(house: House):
    async def pieces() -> AsyncIterator[bytes]:
        yield b'{"prompt": "Hi",'
        yield b'"max_tokens": 64}'

    headers = {"content-type": "application/json"}
    response = await house.client.post("/v1/completions", content=pieces(), headers=headers)
    assert response.json()["choices"][0]["text"] == TEXT


CHUNKED = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "head", [b"GET /health HTTP/1.1\r\nx: ", b"GET /", CHUNKED + b"2\r\n{}\r\n0\r\nx: "]
)
async def test_endless_headers_end_the_connection(house: House, head: bytes):
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    writer.write(head)
    sent = 0
    with contextlib.suppress(ConnectionError):
        while not reader.at_eof() and sent < 16 * 2**20:
            writer.write(b"a" * 8192)
            await writer.drain()
            sent += 8192
            await asyncio.sleep(0)
    assert sent < 2 * 2**20
    writer.close()


async def test_headers_of_a_usual_length_pass_in_pieces(house: House):
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    for piece in (
        b"GET /health HTTP/1.1\r\nhost: x\r\nx: ",
        b"a" * 30_000,
        b"b" * 30_000,
        b"\r\n\r\n",
    ):
        writer.write(piece)
        await asyncio.sleep(0.01)
    assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
    writer.close()
