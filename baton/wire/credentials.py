"""Who may speak gRPC with whom: by the certificates of `tls`, followed when they are renewed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeAlias

import grpc

from baton.settings.tls import TlsSettings
from baton.tls import TlsFiles, cluster_files, public_files
from baton.watched import Watched

Option: TypeAlias = tuple[str, str | int]
Dial: TypeAlias = Callable[[str, Sequence[Option]], grpc.aio.Channel]
"""Opens a channel to a worker at HOST:PORT."""


def server_credentials(tls: TlsSettings) -> grpc.ServerCredentials | None:
    """Of the public endpoint; None = it speaks without encryption. Raises OSError, ValueError."""
    files = public_files(tls)
    return None if files is None else _server(files)


def worker_credentials(tls: TlsSettings) -> grpc.ServerCredentials | None:
    """Of a worker's service; None = it takes anybody. Raises OSError, ValueError."""
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


def _server(files: TlsFiles, now: Callable[[], float] = time.monotonic) -> grpc.ServerCredentials:
    def configuration() -> grpc.ServerCertificateConfiguration:
        cert, key, ca = files.read()
        return grpc.ssl_server_certificate_configuration([(key, cert)], ca)

    watched = Watched(files.paths, configuration, now)
    # gRPC asks at every handshake.
    return grpc.dynamic_ssl_server_credentials(
        watched.latest(), watched.latest, require_client_authentication=files.ca is not None
    )
