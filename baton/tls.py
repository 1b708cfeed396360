"""Certificates as files: read, checked to fit together, and followed when they are renewed."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from baton.errors import StartupError, StartupFault
from baton.settings.tls import TlsSettings
from baton.watched import Watched


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files of one end of connections. `ca` signs what the other end has to show, if any."""

    cert: Path
    key: Path
    ca: Path | None

    @property
    def paths(self) -> tuple[Path, ...]:
        """All of them."""
        return (self.cert, self.key) if self.ca is None else (self.cert, self.key, self.ca)

    def context(self) -> ssl.SSLContext:
        """A server's context of them. Raises OSError, ValueError."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        context.load_cert_chain(self.cert, self.key, password=_no_passphrase)
        if self.ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def read(self) -> tuple[bytes, bytes, bytes | None]:
        """Certificate chain, key and authorities as PEM. Raises OSError, ValueError.

        gRPC says nothing of files that do not fit together, so that they are tried first.
        """
        self.context()
        ca = None if self.ca is None else self.ca.read_bytes()
        return self.cert.read_bytes(), self.key.read_bytes(), ca


def public_files(tls: TlsSettings) -> TlsFiles | None:
    """What the front door shows to clients; None = it speaks without encryption."""
    return _files(tls.cert_path, tls.key_path, tls.client_ca_path)


def cluster_files(tls: TlsSettings) -> TlsFiles | None:
    """What routers and workers show each other; None = they speak without encryption."""
    return _files(tls.cluster_cert_path, tls.cluster_key_path, tls.cluster_ca_path)


def check(tls: TlsSettings) -> None:
    """Raises StartupError that names the settings whose files cannot be used."""
    for files, names in (
        (public_files(tls), ("cert_path", "key_path", "client_ca_path")),
        (cluster_files(tls), ("cluster_cert_path", "cluster_key_path", "cluster_ca_path")),
    ):
        if files is not None:
            _check(files, names)


def server_context(
    tls: TlsSettings, now: Callable[[], float] = time.monotonic
) -> ssl.SSLContext | None:
    """The front door's, which looks for renewed files; None = it speaks without encryption.

    Raises OSError, ValueError.
    """
    files = public_files(tls)
    if files is None:
        return None
    watched = Watched(files.paths, files.context, now)
    first = watched.latest()

    def choose(handshake: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        # The one hook that there is before a certificate is shown; called without a name as well.
        handshake.context = watched.latest()

    first.sni_callback = choose
    return first


def _files(cert: str | None, key: str | None, ca: str | None) -> TlsFiles | None:
    if cert is None or key is None:
        return None
    return TlsFiles(_path(cert), _path(key), None if ca is None else _path(ca))


def _path(text: str) -> Path:
    return Path(text).expanduser()


def _check(files: TlsFiles, names: tuple[str, ...]) -> None:
    given = [f"tls.{name} is {path}" for name, path in zip(names, files.paths, strict=False)]
    for path, told in zip(files.paths, given, strict=True):
        try:
            path.read_bytes()
        except OSError as error:
            raise _unusable(told, error.strerror or str(error)) from error
    try:
        files.context()
    except (OSError, ValueError) as error:
        raise _unusable("; ".join(given), f"{error}") from error


def _unusable(what: str, why: str) -> StartupError:
    return StartupError(
        StartupFault.SETTINGS_INVALID,
        f"{what}: cannot be used: {why}",
        hint="Give PEM files that this user may read: a certificate chain, its key without a "
        "passphrase, and the authority's certificates.",
    )


def _no_passphrase() -> NoReturn:
    raise ValueError("the key has a passphrase; allowed: one without")
