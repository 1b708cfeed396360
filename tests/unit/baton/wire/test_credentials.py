"""Without certificates gRPC speaks to anybody; with them, tests/wire/test_tls.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from baton.settings.tls import TlsSettings
from baton.wire.credentials import (
    changes,
    dial,
    dialer,
    server_credentials,
    worker_credentials,
)
from tests.certificates import Authority


def test_without_settings_nobody_is_asked() -> None:
    tls = TlsSettings()
    assert server_credentials(tls) is worker_credentials(tls) is None
    assert dialer(tls) is dial


def test_files_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, _ = authority.issue("one")
    _, key = authority.issue("other")
    paths = {"cluster_cert_path": cert, "cluster_key_path": key, "cluster_ca_path": authority.path}
    tls = TlsSettings.model_validate({name: str(path) for name, path in paths.items()})
    for make in (worker_credentials, dialer):
        with pytest.raises(OSError, match="MISMATCH"):
            make(tls)


def test_grpc_hears_of_certificates_when_they_change_and_then_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.issue("one")
    paths = {"cluster_cert_path": cert, "cluster_key_path": key, "cluster_ca_path": authority.path}
    tls = TlsSettings.model_validate({name: str(path) for name, path in paths.items()})
    given: list[Callable[[], object]] = []
    monkeypatch.setattr(
        "grpc.dynamic_ssl_server_credentials", lambda _first, news, **_: given.append(news)
    )
    monkeypatch.setattr("baton.watched._LOOK_EVERY_S", 0.0)
    worker_credentials(tls)
    (news,) = given
    assert news() is news() is None
    for old, renewed in zip((cert, key), authority.issue("other"), strict=True):
        old.write_bytes(renewed.read_bytes())
    assert news() is not None
    assert news() is None


def test_changes_are_told_once() -> None:
    now = "one"
    news = changes(lambda: now, now)
    assert news() is None
    now = "two"
    assert [news(), news()] == ["two", None]
    now = "one"
    assert [news(), news()] == ["one", None]
