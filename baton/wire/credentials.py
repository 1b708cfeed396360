"""Who may speak gRPC with whom: by the certificates of `tls`, followed when they are renewed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeAlias, TypeVar, cast

import grpc

from baton.settings.tls import TlsSettings
from baton.tls import TlsFiles, cluster_files, public_files
from baton.watched import Watched

Option: TypeAlias = tuple[str, str | int]
Dial: TypeAlias = Callable[[str, Sequence[Option]], grpc.aio.Channel]
"""Opens a channel to a worker at HOST:PORT."""
T = TypeVar("T")


def server_credentials(tls: TlsSettings) -> grpc.ServerCredentials | None:
    """Of one port of the public endpoint; None = it speaks without encryption.

    Raises OSError, ValueError.
    """
    files = public_files(tls)
    return None if files is None else _server(files)


def worker_credentials(tls: TlsSettings) -> grpc.ServerCredentials | None:
    """Of one port of a worker's service; None = it takes anybody. Raises OSError, ValueError."""
    files = cluster_files(tls)
    return None if files is None else _server(files)


def listen(
    server: grpc.aio.Server, host: str, port: int, credentials: grpc.ServerCredentials | None
) -> int:
    """The port that `server` listens on. Raises RuntimeError if it cannot."""
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if credentials is None:
        return server.add_insecure_port(address)
    return server.add_secure_port(address, credentials)


def dialer(tls: TlsSettings) -> Dial:
    """How routers and workers reach a worker. Raises OSError, ValueError."""
    files = cluster_files(tls)
    if files is None:
        return dial
    watched = Watched(files.paths, files.read)
    # One name for all workers: addresses come and go, and nobody else has the authority's word.
    name: list[Option] = [("grpc.ssl_target_name_override", tls.cluster_name)]

    def dial_known(address: str, options: Sequence[Option]) -> grpc.aio.Channel:
        cert, key, ca = watched.latest()
        known = grpc.ssl_channel_credentials(ca, key, cert)
        return grpc.aio.secure_channel(address, known, [*options, *name])

    return dial_known


def dial(address: str, options: Sequence[Option]) -> grpc.aio.Channel:
    """Without encryption, to whoever is there."""
    return grpc.aio.insecure_channel(address, options)


def changes(latest: Callable[[], T], known: T) -> Callable[[], T | None]:
    """Gives what is the latest, and None while that is what is `known` or was given before."""

    def change() -> T | None:
        nonlocal known
        before, known = known, latest()
        return None if known is before else known

    return change


def _server(files: TlsFiles, now: Callable[[], float] = time.monotonic) -> grpc.ServerCredentials:
    """For one port alone: another would not hear of what the first has been told already."""

    def configuration() -> grpc.ServerCertificateConfiguration:
        cert, key, ca = files.read()
        return grpc.ssl_server_certificate_configuration([(key, cert)], ca)

    watched = Watched(files.paths, configuration, now)
    first = watched.latest()
    # gRPC asks at every handshake, and reads keys and certificates anew whenever it is given any;
    # the stubs do not know that None stands for no change.
    news = cast("Callable[[], grpc.ServerCertificateConfiguration]", changes(watched.latest, first))
    return grpc.dynamic_ssl_server_credentials(
        first, news, require_client_authentication=files.ca is not None
    )
