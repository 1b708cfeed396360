"""Where the routers are and how they are reached: addresses, TLS, API key, channel options."""

import ipaddress
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

SERVICE = "baton.v1.Baton"
MESSAGE_BYTES_MAX = 64 * 2**20
# How long a connection may be silent while it is waited on before it is asked for a sign of life,
# and how long it has to give one. Routers allow a question each 5 s.
KEEPALIVE_MS = 20_000
KEEPALIVE_TIMEOUT_MS = 10_000
# A worker that cannot be reached must not cost much: the router is there.
DIRECT_CONNECT_MS = 2000
_SCHEMES = ("dns:", "ipv4:", "ipv6:", "unix:", "unix-abstract:")
# What decides between several routers lives in gRPC's core. Round robin goes only to routers whose
# health service says SERVING, and a dead one is tried again with growing pauses.
_POOL = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "healthCheckConfig": {"serviceName": SERVICE},
}
_STICKY = {"loadBalancingConfig": [{"pick_first": {"shuffleAddressList": True}}]}


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

    def options(self, *, sticky: bool = False) -> list[tuple[str, Any]]:
        """Channel options; a sticky channel keeps to one router while it is connected."""
        # A single router is asked whatever its health: its own answer says why it refuses.
        pooled = self.may_be_several and not sticky
        options: list[tuple[str, Any]] = [
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

    def direct_options(self) -> list[tuple[str, Any]]:
        """Of channels to workers: they show the routers' certificate at addresses of their own."""
        options = [("grpc.min_reconnect_backoff_ms", DIRECT_CONNECT_MS), *self.options(sticky=True)]
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

    Raises ValueError where an address cannot be read, or where a key would travel in the clear.
    """
    target, hosts = _target([routers] if isinstance(routers, str) else list(routers))
    exposed = tls is None and not all(map(_is_local, hosts))
    if headers.get("authorization") is not None and exposed and not plaintext_key_ok:
        raise ValueError(
            "api_key: without TLS anybody on the way can read it; give tls=TlsOptions(...), or "
            "plaintext_key_ok=True where the network is trusted"
        )
    metadata = tuple((name, value) for name, value in headers.items() if value is not None)
    credentials = None if tls is None else tls.credentials()
    server_name = None if tls is None else tls.server_name
    local_only = tls is None and not exposed and not plaintext_key_ok
    return Connection(target, hosts, credentials, metadata, server_name, local_only)


def _target(routers: list[str]) -> tuple[str, tuple[str, ...]]:
    """The gRPC target and the hosts in it."""
    if len(routers) == 1 and routers[0].startswith(_SCHEMES):
        scheme, _, rest = routers[0].partition(":")
        hosts = ["localhost"] if scheme.startswith("unix") else map(_host, _bare(rest).split(","))
        return routers[0], tuple(hosts)
    hosts = [_host(router) for router in routers]
    if len(routers) == 1:
        return routers[0], tuple(hosts)
    if not routers:
        raise ValueError("no router was named")
    # Names would be looked up once and never again.
    numbers = ["127.0.0.1" if host == "localhost" else host for host in hosts]
    if wrong := [host for host in numbers if not _is_address(host)]:
        raise ValueError(
            f"several routers are given by IP address or as one DNS name with all of them: {wrong}"
        )
    family = "ipv6" if ":" in numbers[0] else "ipv4"
    ends = [r.replace("localhost", "127.0.0.1") for r in routers]
    return f"{family}:{','.join(ends)}", tuple(hosts)


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
