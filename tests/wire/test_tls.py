"""TLS and mTLS on real sockets: strangers are refused, renewed certificates are served."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from baton.ids import RouterId
from baton.settings.access import AccessSettings
from baton.settings.tls import TlsSettings
from baton.tls import server_context
from baton.wire import worker_pb2 as wire
from baton.wire import worker_pb2_grpc as wire_grpc
from baton.wire.credentials import Dial, dial, dialer, worker_credentials
from deploy import keys
from engine.service import WorkerServer
from router.link import LinkLimits, WorkerLink
from router.listen import bind, serve
from router.wire import Identity
from tests.certificates import Authority
from tests.fakes.worker import House, info
from tests.wire.test_link import Heard, until
from tests.wire.ui.cluster import Cluster

pytestmark = pytest.mark.wire
LIMITS = LinkLimits(backoff_s=0.01, backoff_max_s=0.05)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("baton.watched._LOOK_EVERY_S", 0.0)


@pytest.fixture
def own(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "own")


@pytest.fixture
def foreign(tmp_path: Path) -> Authority:
    (tmp_path / "foreign").mkdir()
    return Authority(tmp_path / "foreign", "foreign")


# --- clients and the front door -------------------------------------------------------------------


async def _app(scope: Any, _receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["scheme"].encode()})


@asynccontextmanager
async def door(tls: TlsSettings) -> AsyncIterator[str]:
    server = await serve(_app, bind("127.0.0.1", 0), tls=server_context(tls))
    yield f"https://127.0.0.1:{server.port}"
    await server.stop(0.1)


def public(own: Authority, *, mutual: bool) -> TlsSettings:
    cert, key = own.issue("door")
    ca = str(own.path) if mutual else None
    return TlsSettings(cert_path=str(cert), key_path=str(key), client_ca_path=ca)


def trusting(own: Authority, shown: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=own.path)
    if shown is not None:
        context.load_cert_chain(*shown)
    return context


async def fetched(url: str, context: ssl.SSLContext) -> tuple[str, bytes]:
    """The answer, and the certificate that was shown."""
    async with (
        httpx.AsyncClient(verify=context, trust_env=False, timeout=5) as client,
        client.stream("GET", url) as answer,
    ):
        stream = answer.extensions["network_stream"].get_extra_info("ssl_object")
        return (await answer.aread()).decode(), stream.getpeercert(binary_form=True)


def spoil(path: str | None) -> None:
    Path(str(path)).write_text("half written")


async def test_clients_are_served_over_tls(own: Authority, foreign: Authority) -> None:
    async with door(public(own, mutual=False)) as url:
        assert (await fetched(url, trusting(own)))[0] == "https"
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await fetched(url, trusting(foreign))
        with pytest.raises(httpx.HTTPError):
            await fetched(url.replace("https", "http"), trusting(own))


async def test_an_unknown_client_certificate_is_refused(own: Authority, foreign: Authority) -> None:
    async with door(public(own, mutual=True)) as url:
        assert (await fetched(url, trusting(own, own.issue("client"))))[0] == "https"
        for shown in (None, foreign.issue("client")):
            with pytest.raises(httpx.HTTPError):
                await fetched(url, trusting(own, shown))


async def test_a_renewed_certificate_is_served_without_a_restart(
    own: Authority, foreign: Authority
) -> None:
    tls = public(own, mutual=True)
    client = trusting(own, own.issue("client"))
    async with door(tls) as url:
        _, before = await fetched(url, client)
        own.issue("door")
        _, after = await fetched(url, client)
        assert before != after
        spoil(tls.key_path)
        assert (await fetched(url, client))[1] == after
        own.issue("door")
        assert (await fetched(url, client))[1] not in (before, after)
        # So are the authorities of clients.
        own.path.write_bytes(foreign.path.read_bytes())
        with pytest.raises(httpx.HTTPError):
            await fetched(url, client)


class Sealed(Cluster):
    """A router's process with certificates, as it runs in a cluster."""

    def __init__(self, tls: TlsSettings, access: AccessSettings) -> None:
        super().__init__()
        more = {"tls": tls, "access": access}
        self.settings = self.settings.model_copy(update=more)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"


async def test_a_routers_process_takes_both_from_its_settings(
    own: Authority, tmp_path: Path
) -> None:
    access = AccessSettings(keys_path=str(tmp_path / "keys.json"))
    key, _ = keys.add(access, "team-a", operator=False)
    async with Sealed(public(own, mutual=False), access) as cluster:
        assert cluster.router.progress().ready_url == cluster.url
        client = httpx.AsyncClient(base_url=cluster.url, verify=trusting(own), trust_env=False)
        async with client:
            assert (await client.get("/v1/models")).status_code == 401
            client.headers["authorization"] = f"Bearer {key}"
            body = {"model": "demo", "prompt": "Hi", "max_tokens": 8}
            answer = await client.post("/v1/completions", json=body)
            assert answer.status_code == 200
            assert (await client.get(f"/story/{answer.json()['id']}")).status_code == 200
            other, _ = keys.add(access, "team-b", operator=False)
            client.headers["authorization"] = f"Bearer {other}"
            assert (await client.get(f"/story/{answer.json()['id']}")).status_code == 404
            assert (await client.get(f"/explain/{answer.json()['id']}")).status_code == 404


# --- routers and workers --------------------------------------------------------------------------


def inside(authority: Authority, name: str, trusted: Authority, host: str = "baton") -> TlsSettings:
    cert, key = authority.issue(name, host=host)
    return TlsSettings(
        cluster_ca_path=str(trusted.path), cluster_cert_path=str(cert), cluster_key_path=str(key)
    )


@asynccontextmanager
async def worker(tls: TlsSettings) -> AsyncIterator[str]:
    server = WorkerServer(House().worker, worker_credentials(tls))
    port = server.bind("127.0.0.1")
    await server.start(info("digest"))
    yield f"127.0.0.1:{port}"
    await server.stop(0)


@asynccontextmanager
async def linked(address: str, dial: Dial) -> AsyncIterator[Heard]:
    heard = Heard()
    identity = Identity(RouterId("router-0"), "digest")
    link = WorkerLink(replace(info("digest"), address=address), identity, heard, LIMITS, dial)
    yield heard
    await link.aclose()


async def refused(address: str, dial: Dial) -> bool:
    async with dial(address, ()) as channel:
        try:
            await wire_grpc.WorkerStub(channel).Describe(wire.DescribeRequest(), timeout=5)
        except grpc.aio.AioRpcError as error:
            return error.code() is grpc.StatusCode.UNAVAILABLE
        return False


async def test_routers_and_workers_know_each_other(own: Authority) -> None:
    router = dialer(inside(own, "router", own))
    async with worker(inside(own, "worker", own)) as address, linked(address, router) as heard:
        await until(lambda: heard.frames)


async def test_a_worker_refuses_strangers(own: Authority, foreign: Authority) -> None:
    async with worker(inside(own, "worker", own)) as address:
        assert not await refused(address, dialer(inside(own, "router", own)))
        # Of another authority; one that trusts the worker, and one that does not; and nobody known.
        assert await refused(address, dialer(inside(foreign, "stranger", own)))
        assert await refused(address, dialer(inside(foreign, "stranger", foreign)))
        assert await refused(address, dial)


async def test_a_router_refuses_a_strange_worker(own: Authority, foreign: Authority) -> None:
    router = dialer(inside(own, "router", own))
    async with worker(inside(foreign, "worker", own)) as address:
        assert await refused(address, router)
    async with worker(inside(own, "misnamed", own, host="another")) as address:
        assert await refused(address, router)
    async with worker(TlsSettings()) as address:
        assert await refused(address, router)
        async with linked(address, router) as heard:
            await asyncio.sleep(0.1)
            assert heard.frames == []


async def test_renewed_certificates_are_used_for_new_links(
    own: Authority, foreign: Authority
) -> None:
    tls = inside(own, "worker", own)
    router = dialer(inside(own, "router", own))
    async with worker(tls) as address:
        assert not await refused(address, router)
        # A cluster that changes its authority: both sides follow.
        own.path.write_bytes(foreign.path.read_bytes())
        assert await refused(address, router)
        for name in ("worker", "router"):
            for old, renewed in zip(own.issue(name), foreign.issue(name), strict=True):
                old.write_bytes(renewed.read_bytes())
        assert not await refused(address, router)
