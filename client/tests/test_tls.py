"""TLS and mTLS, with certificates made for the test."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from baton_client import AsyncClient, Client, TlsOptions, UnavailableError
from baton_client.testing import FakeBaton

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is missing")
NEW_KEY = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]


def made(folder: Path, name: str, host: str) -> TlsOptions:
    """A self-signed certificate for a host, which is its own authority."""
    cert, key = folder / f"{name}.pem", folder / f"{name}-key.pem"
    names = ["-subj", f"/CN={host}", "-addext", f"subjectAltName={host}", "-days", "2"]
    files = ["-nodes", "-keyout", str(key), "-out", str(cert)]
    subprocess.run([*NEW_KEY, *names, *files], check=True, capture_output=True)
    return TlsOptions(cert=cert, key=key)


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> TlsOptions:
    return made(tmp_path_factory.mktemp("ours"), "router", "IP:127.0.0.1,DNS:router.test")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> TlsOptions:
    return made(tmp_path_factory.mktemp("theirs"), "client", "DNS:client.test")


def server(own: TlsOptions, clients: TlsOptions | None = None) -> FakeBaton:
    pair = [(Path(own.key).read_bytes(), Path(own.cert).read_bytes())]
    trusted = Path(clients.cert).read_bytes() if clients else None
    asked = clients is not None
    return FakeBaton(credentials=grpc.ssl_server_credentials(pair, trusted, asked))


@pytest.fixture
def fake(ours: TlsOptions) -> Iterator[FakeBaton]:
    with server(ours) as fake:
        yield fake


def test_a_router_is_known_by_its_certificate(fake: FakeBaton, ours: TlsOptions) -> None:
    with Client(fake.address, tls=TlsOptions(ca=ours.cert), api_key="k") as client:
        assert client.generate("a").text == "a"
    assert fake.metadata[0]["authorization"] == "Bearer k"

    async def scene() -> str:
        async with AsyncClient(fake.address, tls=TlsOptions(ca=ours.cert)) as client:
            return (await client.generate("a")).text

    assert asyncio.run(scene()) == "a"


@pytest.mark.parametrize("wrong", ["authority", "name", "plaintext"])
def test_others_are_not_talked_to(
    wrong: str, fake: FakeBaton, ours: TlsOptions, theirs: TlsOptions
) -> None:
    tls = {
        "authority": TlsOptions(ca=theirs.cert),
        "name": TlsOptions(ca=ours.cert, server_name="other.test"),
        "plaintext": None,
    }[wrong]
    with Client(fake.address, tls=tls, retries=None) as client, pytest.raises(UnavailableError):
        client.generate("a", timeout_s=10)
    assert not fake.requests


def test_several_routers_share_a_name(ours: TlsOptions) -> None:
    tls = TlsOptions(ca=ours.cert, server_name="router.test")
    with server(ours) as one, server(ours) as other:
        with Client([one.address, other.address], tls=tls) as client:
            for _ in range(20):
                client.models()
            name = client.generate("a").request_id
            assert name in client.story(name)
        assert one.calls["ListModels"] > 0
        assert other.calls["ListModels"] > 0


def test_a_router_can_ask_for_a_certificate(ours: TlsOptions, theirs: TlsOptions) -> None:
    with server(ours, clients=theirs) as fake:
        known = TlsOptions(ca=ours.cert, cert=theirs.cert, key=theirs.key)
        with Client(fake.address, tls=known) as client:
            assert client.generate("a").text == "a"
        unknown = TlsOptions(ca=ours.cert, cert=ours.cert, key=ours.key)
        for tls in (TlsOptions(ca=ours.cert), unknown):
            client = Client(fake.address, tls=tls, retries=None)
            with client, pytest.raises(UnavailableError):
                client.generate("a", timeout_s=10)
        assert len(fake.requests) == 1
