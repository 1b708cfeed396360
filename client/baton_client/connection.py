"""Where the routers are and how they are reached: addresses, TLS, API key, channel options."""

import ipaddress
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import grpc

SERVICE = "baton.v1.Baton"
MESSAGE_BYTES_MAX = 64 * 2**20
# How long a connection may be silent while it is waited on before it is asked for a sign of life,
# and how long it has to give one. Routers allow a question each 5 s.
KEEPALIVE_MS = 20_000
KEEPALIVE_TIMEOUT_MS = 10_000
# One that cannot be reached must not cost much where there are others.
CONNECT_MS = 2000
UNSENDABLE = "only printable ASCII characters can be sent"
# What the headers are called where they are given.
_GIVEN_AS = {"authorization": "api_key", "x-baton-tenant": "tenant"}
_SCHEMES = ("dns:", "ipv4:", "ipv6:", "unix:", "unix-abstract:")
# What decides between several routers lives in gRPC's core. Round robin goes only to routers whose
# health service says SERVING, and a dead one is tried again with growing pauses.
_POOL = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "healthCheckConfig": {"serviceName": SERVICE},
}
_STICKY = {"loadBalancingConfig": [{"pick_first": {"shuffleAddressList": True}}]}

Options = list[tuple[str, Any]]
C_co = TypeVar("C_co", covariant=True)


class Opener(Protocol[C_co]):
    """`grpc` or `grpc.aio`, as far as channels are opened with it."""

    def insecure_channel(self, target: str, options: Options) -> C_co:
        """To whoever is there."""

    def secure_channel(
        self, target: str, credentials: grpc.ChannelCredentials, options: Options
    ) -> C_co:
        """To who is known."""


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """Paths of PEM files.

    `ca` verifies the router (None = the certificates that gRPC ships); `cert` and `key` are the
    client's own, for routers that ask for one (mTLS). `server_name` is the name that the router's
    certificate has to bear where that is not the host in the target, as with IP addresses.

        client = Client("router.example:443", tls=TlsOptions(ca="ca.pem"), api_key="sk-...")
    """

    ca: str | Path | None = None
    cert: str | Path | None = None
    key: str | Path | None = None
    server_name: str | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """Read the files. Raises OSError where one cannot be read, ValueError for half a pair."""
        if (self.cert is None) != (self.key is None):
            raise ValueError("tls: cert and key belong together")
        return grpc.ssl_channel_credentials(_read(self.ca), _read(self.key), _read(self.cert))


def _read(path: str | Path | None) -> bytes | None:
    return None if path is None else Path(path).read_bytes()


@dataclass(frozen=True, slots=True)
class Connection:
    """One way to the routers, ready to be opened any number of times."""

    target: str
    # Of each router that is known by itself, in the order of `hosts`.
    ends: tuple[str, ...]
    hosts: tuple[str, ...]
    credentials: grpc.ChannelCredentials | None
    # The API key is in it.
    metadata: tuple[tuple[str, str], ...] = field(repr=False)
    server_name: str | None
    # What is sent in the clear stays on this machine: the routers may be here only by a tunnel.
    local_only: bool = False

    @property
    def may_be_several(self) -> bool:
        """Whether more than one router may answer; a name can stand for many."""
        return len(self.hosts) > 1 or not _is_address(self.hosts[0])

    def opened(self, kind: Opener[C_co], target: str, options: Options) -> C_co:
        """A channel to one of the routers, all of them, or a worker."""
        if self.credentials is None:
            return kind.insecure_channel(target, options)
        return kind.secure_channel(target, self.credentials, options)

    def options(self, *, sticky: bool = False) -> Options:
        """Channel options; a sticky channel keeps to one router while it is connected."""
        # A single router is asked whatever its health: its own answer says why it refuses.
        pooled = self.may_be_several and not sticky
        options: Options = [
            ("grpc.service_config", json.dumps(_POOL if pooled else _STICKY)),
            ("grpc.primary_user_agent", "baton-client"),
            ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.max_reconnect_backoff_ms", 5000),
            ("grpc.keepalive_time_ms", KEEPALIVE_MS),
            ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
            # Another ping may be on its way already; without this it is waited for a minute.
            ("grpc.http2.ping_timeout_ms", KEEPALIVE_TIMEOUT_MS),
            ("grpc.http2.max_pings_without_data", 0),
        ]
        if self.server_name is not None:
            options.append(("grpc.ssl_target_name_override", self.server_name))
        return options

    def may_read_from(self, address: str) -> bool:
        """Whether answers may come from this address, HOST:PORT."""
        host = address.rpartition(":")[0].strip("[]")
        return not self.local_only or address.startswith("unix:") or _is_local(host)

    def end_options(self) -> Options:
        """Of a channel to one of several ends."""
        return [("grpc.min_reconnect_backoff_ms", CONNECT_MS), *self.options(sticky=True)]

    def direct_options(self) -> Options:
        """Of channels to workers: they show the routers' certificate at addresses of their own."""
        options = self.end_options()
        if self.credentials is not None and self.server_name is None:
            options.append(("grpc.ssl_target_name_override", self.hosts[0]))
        return options


def connect(
    routers: str | Sequence[str],
    tls: TlsOptions | None,
    headers: Mapping[str, str | None],
    *,
    plaintext_key_ok: bool,
) -> Connection:
    """Check what was given. `headers` are sent with each call, those that are None left out.

    Raises ValueError where an address cannot be read, where a key would travel in the clear, and
    for headers that cannot be sent.
    """
    target, ends, hosts = _target([routers] if isinstance(routers, str) else list(routers))
    exposed = tls is None and not all(map(_is_local, hosts))
    if headers.get("authorization") is not None and exposed and not plaintext_key_ok:
        raise ValueError(
            "api_key: without TLS anybody on the way can read it; give tls=TlsOptions(...), or "
            "plaintext_key_ok=True where the network is trusted"
        )
    metadata = tuple((name, value) for name, value in headers.items() if value is not None)
    for name, value in metadata:
        if not sendable(value):
            raise ValueError(f"{_GIVEN_AS.get(name, name)}: {UNSENDABLE}")
    credentials = None if tls is None else tls.credentials()
    server_name = None if tls is None else tls.server_name
    local_only = tls is None and not exposed and not plaintext_key_ok
    return Connection(target, ends, hosts, credentials, metadata, server_name, local_only)


def sendable(value: str) -> bool:
    """Whether gRPC takes it for the value of a header."""
    return value.isascii() and value.isprintable()


def _target(routers: list[str]) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """The gRPC target, that of each end in it, and their hosts."""
    if len(routers) == 1:
        return routers[0], *_parts(routers[0])
    hosts = [_host(router) for router in routers]
    if not routers:
        raise ValueError("no router was named")
    # Names would be looked up once and never again.
    numbers = ["127.0.0.1" if host == "localhost" else host for host in hosts]
    if wrong := [host for host in numbers if not _is_address(host)]:
        raise ValueError(
            f"several routers are given by IP address or as one DNS name with all of them: {wrong}"
        )
    families = {"ipv6" if ":" in host else "ipv4" for host in numbers}
    if len(families) > 1:
        raise ValueError(f"routers are all given by IPv4 or all by IPv6 address: {numbers}")
    family, ends = families.pop(), [r.replace("localhost", "127.0.0.1") for r in routers]
    return f"{family}:{','.join(ends)}", tuple(f"{family}:{end}" for end in ends), tuple(hosts)


def _parts(router: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The ends of one target, and their hosts."""
    if not router.startswith(_SCHEMES):
        return (router,), (_host(router),)
    scheme, _, rest = router.partition(":")
    if scheme.startswith("unix"):
        return (router,), ("localhost",)
    ends = _bare(rest).split(",")
    alone = (router,) if len(ends) == 1 else tuple(f"{scheme}:{end}" for end in ends)
    return alone, tuple(map(_host, ends))


def _bare(rest: str) -> str:
    """The endpoint in a target, without slashes and the authority of a DNS server."""
    return rest.rpartition("/")[2] if rest.startswith("//") else rest


def _host(router: str) -> str:
    """The host of `host:port` or `[ipv6]:port`."""
    host, _, port = router.rpartition(":")
    if not host or not port.isdecimal() or "://" in router:
        raise ValueError(f"router {router!r}: expected HOST:PORT")
    return host.strip("[]")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return True


def _is_local(host: str) -> bool:
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)
