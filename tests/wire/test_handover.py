"""A port goes from one server to its successor while clients keep asking: no request fails."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from baton.errors import StartupError, StartupFault
from baton.settings import Settings
from deploy.doorway import Doorway, Farewell
from deploy.handover import Offer, fetch
from deploy.loop_thread import until
from deploy.port import hold, hold_grpc, on_port
from router.listen import HttpServer, bind, serve

pytestmark = [pytest.mark.wire, pytest.mark.timeout(60)]


@dataclass
class Server:
    """One router's HTTP server, without a router."""

    name: str
    http: HttpServer
    door: Doorway
    offer: Offer
    gate: asyncio.Event
    url: str


async def start(name: str, sock: socket.socket) -> Server:
    gate = asyncio.Event()

    async def who(_request: Request) -> Response:
        return PlainTextResponse(name)

    async def slow(_request: Request) -> Response:
        async def words():
            yield b"begun "
            await gate.wait()
            yield name.encode()

        return StreamingResponse(words())

    farewell = Farewell(Starlette(routes=[Route("/", who), Route("/slow", slow)]))
    http = await serve(farewell, sock)
    return Server(
        name, http, Doorway(http, farewell), Offer(sock), gate, f"http://127.0.0.1:{http.port}"
    )


async def follow(old: Server, name: str) -> Server:
    """Starts the successor of a server."""
    return await start(name, await asyncio.to_thread(fetch, old.offer.open()))


async def ask_anew(url: str, over: asyncio.Event, heard: list[str]) -> None:
    """A new connection for each request."""
    while not over.is_set():
        async with httpx.AsyncClient() as client:
            heard.append((await client.get(url)).text)


async def ask_on(url: str, over: asyncio.Event, heard: list[str]) -> None:
    """One connection for as long as the server keeps it."""
    async with httpx.AsyncClient() as client:
        while not over.is_set():
            heard.append((await client.get(url)).text)


async def test_no_client_notices() -> None:
    servers = [await start("server-0", bind("127.0.0.1", 0, reuse_port=True))]
    over, heard = asyncio.Event(), []
    url = servers[0].url
    ways = [ask_anew, ask_anew, ask_on, ask_on]
    clients = [asyncio.ensure_future(way(url, over, heard)) for way in ways]
    for number in range(1, 6):
        await asyncio.sleep(0.2)
        servers.append(await follow(servers[-1], f"server-{number}"))
        await asyncio.wait_for(servers[-2].door.close(), 5)
        await servers[-2].http.stop(1)
    await asyncio.sleep(0.2)
    over.set()
    await asyncio.gather(*clients)
    assert set(heard) == {server.name for server in servers}
    await servers[-1].http.stop(1)


async def test_a_stream_ends_where_it_began_and_the_quiet_are_let_go() -> None:
    old = await start("old", bind("127.0.0.1", 0, reuse_port=True))
    async with httpx.AsyncClient() as quiet, httpx.AsyncClient() as client:
        await quiet.get(old.url)
        async with client.stream("GET", f"{old.url}/slow") as answer:
            text = answer.aiter_text()
            assert await anext(text) == "begun "
            new = await follow(old, "new")
            closing = asyncio.ensure_future(old.door.close())
            # The one that is quiet is given a moment, the one that reads all it needs.
            await asyncio.sleep(0.5)
            assert old.door.clients == 2
            assert await until(lambda: old.door.clients == 1, 6)
            old.gate.set()
            assert [word async for word in text] == ["old"]
        last = await client.get(old.url)
        assert (last.text, last.headers["connection"]) == ("old", "close")
        await closing
        assert [(await c.get(new.url)).text for c in (client, quiet)] == ["new", "new"]
    for server in (old, new):
        await server.http.stop(1)


async def test_an_offer_is_for_one_and_not_of_a_closed_port() -> None:
    with socket.socket() as sock:
        offer = Offer(sock)
        name = offer.open()
        with fetch(name) as found:
            assert found.family is socket.AF_INET
        with pytest.raises(ConnectionError):
            fetch(name)
    with pytest.raises(OSError, match="no port was handed over"):
        fetch(offer.open())


async def test_a_port_is_held_for_all_routers_and_for_nobody_else() -> None:
    settings = Settings.model_validate({"router": {"port": 0}})
    with hold(settings) as held:
        settings = on_port(settings, held)
        port = settings.router.port
        assert port > 0
        with pytest.raises(StartupError) as caught:
            hold(settings)
        assert caught.value.fault is StartupFault.PORT_TAKEN
        one, two = (bind("127.0.0.1", port, reuse_port=True) for _ in range(2))
        with one, two:
            with pytest.raises(StartupError):
                bind("127.0.0.1", port)
            hold(settings, shared=True).close()
    hold(settings).close()


async def test_the_grpc_port_is_held_beside_it() -> None:
    settings = Settings.model_validate({"router": {"port": 0}})
    with hold(settings) as held, hold_grpc(settings) as grpc:
        settings = on_port(settings, held, grpc)
        router = settings.router
        assert router.grpc_port not in (None, 0, router.port)
        with pytest.raises(StartupError) as caught:
            hold_grpc(settings)
        assert "router.grpc_port" in caught.value.hint
        hold_grpc(settings, shared=True).close()
    off = settings.model_copy(update={"router": router.model_copy(update={"grpc": False})})
    with hold(off) as held, hold_grpc(off) as none:
        assert none is None
        assert on_port(off, held, none).router == off.router
