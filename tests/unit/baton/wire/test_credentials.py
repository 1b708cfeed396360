"""Without certificates gRPC speaks to anybody; with them, tests/wire/test_tls.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from baton.settings.tls import TlsSettings
from baton.wire.credentials import dial, dialer, server_credentials, worker_credentials
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
