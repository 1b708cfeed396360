"""What is said and refused before a cluster opens its doors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from baton.errors import StartupError
from baton.settings import Settings
from deploy.opening import check_files, warnings

OPEN = {"router": {"host": "0.0.0.0"}, "cluster": {"bind_host": "node"}}
KEYS = {"access": {"keys_path": "k"}}
TLS = {"tls": {"cert_path": "c", "key_path": "k"}}
INSIDE = {"tls": {"cluster_ca_path": "a", "cluster_cert_path": "c", "cluster_key_path": "k"}}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, []),
        (OPEN, ["everybody who reaches 0.0.0.0", "without encryption", "workers trust everybody"]),
        ({**OPEN, **KEYS}, ["without encryption", "workers trust everybody"]),
        ({**OPEN, **TLS}, ["everybody who reaches", "workers trust everybody"]),
        ({**OPEN, **KEYS, "tls": {**TLS["tls"], **INSIDE["tls"]}}, []),
    ],
)
def test_what_is_open_is_said(given: dict[str, Any], said: list[str]) -> None:
    found = warnings(Settings.model_validate(given))
    assert len(found) == len(said)
    for line, words in zip(found, said, strict=True):
        assert words in line


@pytest.mark.parametrize(
    ("host", "direct", "said"),
    [
        ("0.0.0.0", {"direct": True}, 1),
        ("0.0.0.0", {"direct": True, "direct_host": "node"}, 0),
        ("0.0.0.0", {}, 0),
        ("127.0.0.1", {"direct": True}, 0),
    ],
)
def test_workers_that_remote_clients_do_not_reach_are_said(
    host: str, direct: dict[str, Any], said: int
) -> None:
    given = {"router": {"host": host, **direct}, **KEYS, **TLS}
    found = warnings(Settings.model_validate(given))
    assert [("no worker at 127.0.0.1" in line) for line in found] == [True] * said


@pytest.mark.parametrize("front", ["rust", "python-processes"])
def test_pages_of_routers_with_front_end_processes_are_open_inside(
    front: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"router": {"front": front}, **INSIDE, "cluster": {"bind_host": "node"}}
    (said,) = warnings(Settings.model_validate(given))
    assert "everybody who reaches node may read Baton's pages" in said
    monkeypatch.setenv("VLLM_API_KEY", "secret")
    (said,) = warnings(Settings.model_validate(given))
    assert "/metrics and /targets" in said
    assert warnings(Settings.model_validate({"router": {"front": front}})) == []


def test_what_the_rust_front_end_is_not_told_is_said() -> None:
    engine = {"extra_args": {"tokenizer_mode": "slow"}}
    for front, said in (("rust", 1), ("python-processes", 0), ("auto", 0)):
        found = warnings(Settings.model_validate({"router": {"front": front}, "engine": engine}))
        assert len([line for line in found if "tokenizer_mode" in line]) == said


def test_a_key_of_vllm_is_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_API_KEY", "secret")
    settings = Settings.model_validate({"router": {"host": "0.0.0.0"}})
    assert all("everybody" not in line for line in warnings(settings))


@pytest.mark.parametrize(("given", "named"), [(KEYS, "access.keys_path"), (TLS, "tls.cert_path")])
def test_files_that_cannot_be_used_are_named(
    given: dict[str, Any], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    check_files(Settings())
    with pytest.raises(StartupError, match=named):
        check_files(Settings.model_validate(given))
