"""By what the command line is let in."""

from __future__ import annotations

from pathlib import Path

import pytest

from baton.errors import StartupError
from deploy.reach import Reach
from tests.certificates import Authority


def test_a_key_is_shown_to_routers_and_to_nobody_else() -> None:
    reach = Reach("http://127.0.0.1:1", "bt-1-secret")
    assert "secret" not in repr(reach)
    with reach.client(1.0) as client:
        assert client.headers["authorization"] == "Bearer bt-1-secret"
    with Reach("http://127.0.0.1:1").client(1.0) as client:
        assert "authorization" not in client.headers


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.issue("me")
    Reach("https://x", ca=authority.path, cert=cert, cert_key=key).client(1.0).close()
    for broken in (Reach("https://x", ca=tmp_path / "none"), Reach("https://x", cert=cert)):
        with pytest.raises(StartupError, match="--ca, --cert and --cert-key"):
            broken.client(1.0)


def test_no_proxy_is_asked_for_one_s_own_cluster() -> None:
    assert Reach("http://10.0.0.7:8000").by_proxy
    assert not Reach("http://10.0.0.7:8000", own=True).by_proxy
    assert not Reach("http://127.0.0.1:8000").by_proxy
