"""Files that cannot be used are refused with the names of their settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from baton.errors import StartupError, StartupFault
from baton.settings.tls import TlsSettings
from baton.tls import check, cluster_files, public_files, server_context
from tests.certificates import Authority


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def public(authority: Authority, name: str = "server", **more: str) -> TlsSettings:
    cert, key = authority.issue(name)
    return TlsSettings.model_validate({"cert_path": str(cert), "key_path": str(key), **more})


def refused(tls: TlsSettings) -> StartupError:
    with pytest.raises(StartupError) as caught:
        check(tls)
    assert caught.value.fault is StartupFault.SETTINGS_INVALID
    return caught.value


def test_without_settings_there_is_nothing_to_check() -> None:
    check(TlsSettings())
    assert public_files(TlsSettings()) is cluster_files(TlsSettings()) is None
    assert server_context(TlsSettings()) is None


def test_what_fits_together_is_taken(authority: Authority) -> None:
    check(public(authority, client_ca_path=str(authority.path)))
    cert, key = (str(path) for path in authority.issue("inside"))
    ca = str(authority.path)
    check(TlsSettings(cluster_ca_path=ca, cluster_cert_path=cert, cluster_key_path=key))


@pytest.mark.parametrize("name", ["cert_path", "key_path", "client_ca_path"])
def test_a_missing_file_is_named(authority: Authority, name: str, tmp_path: Path) -> None:
    tls = public(authority, client_ca_path=str(authority.path))
    gone = tls.model_copy(update={name: str(tmp_path / "none.pem")})
    assert f"tls.{name} is {tmp_path}/none.pem: cannot be used: No such file" in str(refused(gone))


def test_the_key_of_another_certificate_is_refused(authority: Authority) -> None:
    _, key = authority.issue("other")
    wrong = public(authority).model_copy(update={"key_path": str(key)})
    assert "tls.key_path is" in refused(wrong).message


def test_a_passphrase_is_not_asked_for(authority: Authority) -> None:
    cert, key = authority.issue("locked", secret=b"open sesame")
    error = refused(TlsSettings(cert_path=str(cert), key_path=str(key)))
    assert "has a passphrase" in error.message


def test_garbage_is_refused(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "garbage").write_text("nothing")
    garbage = str(tmp_path / "garbage")
    tls = public(authority).model_copy(update={"client_ca_path": garbage})
    assert "tls.client_ca_path is" in refused(tls).message
