"""Addresses are read, and keys do not travel in the clear."""

from __future__ import annotations

import json

import pytest
from baton_client import Client, TlsOptions
from baton_client.connection import Connection, connect

SEVERAL = ["10.0.0.1:1", "10.0.0.2:2"]


def to(routers: str | list[str], key: str | None = None, **more: bool) -> Connection:
    options = {"plaintext_key_ok": False, **more}
    return connect(routers, None, {"authorization": key, "x-baton-tenant": None}, **options)


@pytest.mark.parametrize(
    ("routers", "target", "several"),
    [
        ("router:50051", "router:50051", True),
        (["router:50051"], "router:50051", True),
        ("10.0.0.1:1", "10.0.0.1:1", False),
        ("localhost:1", "localhost:1", False),
        ("[::1]:1", "[::1]:1", False),
        (SEVERAL, "ipv4:10.0.0.1:1,10.0.0.2:2", True),
        (["localhost:1", "localhost:2"], "ipv4:127.0.0.1:1,127.0.0.1:2", True),
        (["[::1]:1", "[::2]:2"], "ipv6:[::1]:1,[::2]:2", True),
        ("dns:///router:50051", "dns:///router:50051", True),
        ("ipv4:10.0.0.1:1,10.0.0.2:2", "ipv4:10.0.0.1:1,10.0.0.2:2", True),
        ("unix:baton.sock", "unix:baton.sock", False),
    ],
)
def test_targets(routers: str | list[str], target: str, several: bool) -> None:
    connection = to(routers)
    assert (connection.target, connection.may_be_several) == (target, several)


@pytest.mark.parametrize(
    "routers", ["router", "http://router:1", "router:port", [], ["a:1", "b:2"], ":1"]
)
def test_addresses_that_cannot_work(routers: str | list[str]) -> None:
    with pytest.raises(ValueError, match="router"):
        to(routers)


@pytest.mark.parametrize("routers", ["router:1", "10.0.0.1:1", ["127.0.0.1:1", "10.0.0.1:1"]])
def test_a_key_over_plaintext_stays_on_this_machine(routers: str | list[str]) -> None:
    with pytest.raises(ValueError, match="plaintext_key_ok"):
        to(routers, key="Bearer k")
    assert to(routers, key="Bearer k", plaintext_key_ok=True).metadata
    assert to(routers).metadata == ()


@pytest.mark.parametrize("routers", ["localhost:1", "127.0.0.2:1", "[::1]:1", "unix:baton.sock"])
def test_a_key_may_go_to_this_machine(routers: str) -> None:
    assert to(routers, key="Bearer k").metadata == (("authorization", "Bearer k"),)


@pytest.mark.parametrize("routers", ["localhost:1", "unix:baton.sock"])
def test_a_tunnel_is_not_left_in_the_clear(routers: str) -> None:
    reads = to(routers).may_read_from
    assert not any(map(reads, ["10.0.0.1:1", "worker:1", "[fd00::1]:1"]))
    assert all(map(reads, ["127.0.0.2:1", "localhost:1", "[::1]:1"]))
    assert to(routers, plaintext_key_ok=True).may_read_from("10.0.0.1:1")
    assert to("10.0.0.1:1").may_read_from("10.0.0.2:1")
    assert Client(routers, tls=TlsOptions()).core.connection.may_read_from("10.0.0.1:1")


def test_half_a_pair_of_files_is_an_error() -> None:
    with pytest.raises(ValueError, match="cert and key"):
        Client("router:1", tls=TlsOptions(cert="cert.pem"))


def test_the_pool_checks_health() -> None:
    pool = json.loads(dict(to(SEVERAL).options())["grpc.service_config"])
    assert pool["healthCheckConfig"] == {"serviceName": "baton.v1.Baton"}
    alone = json.loads(dict(to("10.0.0.1:1").options())["grpc.service_config"])
    assert "healthCheckConfig" not in alone


def test_an_unknown_option_is_an_error() -> None:
    with pytest.raises(TypeError, match="apikey"):
        Client("router:1", apikey="k")


def test_the_key_is_not_shown() -> None:
    headers = {"authorization": "Bearer secret"}
    shown = repr(connect("localhost:1", None, headers, plaintext_key_ok=False))
    assert "secret" not in shown


@pytest.mark.parametrize("name", ["api_key", "tenant"])
@pytest.mark.parametrize("value", ["sécret", "secret\n", "sec\x00ret"])
def test_what_no_header_can_carry_is_refused_and_not_shown(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: only printable ASCII") as raised:
        Client("localhost:1", **{name: value})
    assert value.strip() not in str(raised.value)


def test_both_families_of_addresses_are_refused_together() -> None:
    with pytest.raises(ValueError, match="IPv4 or all by IPv6"):
        to(["10.0.0.1:1", "[::1]:1"])
    with pytest.raises(ValueError, match="IPv4 or all by IPv6"):
        to(["localhost:1", "[::1]:1"])


@pytest.mark.parametrize(
    ("routers", "ends"),
    [
        (SEVERAL, ("ipv4:10.0.0.1:1", "ipv4:10.0.0.2:2")),
        ("ipv6:[::1]:1,[::2]:2", ("ipv6:[::1]:1", "ipv6:[::2]:2")),
        ("dns:///router:1", ("dns:///router:1",)),
        ("router:1", ("router:1",)),
        ("unix:a,b", ("unix:a,b",)),
    ],
)
def test_the_ends_of_a_target(routers: str | list[str], ends: tuple[str, ...]) -> None:
    assert to(routers).ends == ends
