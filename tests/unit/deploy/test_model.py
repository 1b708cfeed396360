"""Which model is served, and under what name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from baton.settings import Settings
from deploy.model import DEMO_MODEL, model_path, resolved, served_name


def settings(**model: Any) -> Settings:
    return Settings.model_validate({"model": model})


def test_without_a_path_the_demo_model_is_served() -> None:
    assert model_path(settings()) == DEMO_MODEL
    assert served_name(settings()) == "baton-demo"
    assert (DEMO_MODEL / "config.json").exists()


def test_a_folder_lends_its_name(tmp_path: Path) -> None:
    chosen = settings(path=str(tmp_path / "Some-Model"))
    assert model_path(chosen) == tmp_path / "Some-Model"
    assert served_name(chosen) == "Some-Model"


@pytest.mark.parametrize("path", [None, "elsewhere"])
def test_a_name_of_ones_own_wins(path: str | None) -> None:
    assert served_name(settings(path=path, served_name="mine")) == "mine"


def test_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    assert model_path(settings(path="~/m")) == tmp_path / "m"
    assert model_path(settings(path="here/../m")) == tmp_path / "m"
    assert served_name(settings(path="here/.")) == "here"


def test_files_are_found_from_every_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    given = {"access": {"keys_path": "~/keys"}, "tls": {"cert_path": "c", "key_path": "/k"}}
    found = resolved(Settings.model_validate(given))
    assert found.access.keys_path == str(tmp_path / "keys")
    assert (found.tls.cert_path, found.tls.key_path) == (str(tmp_path / "c"), "/k")
    assert found.tls.client_ca_path is None
    assert resolved(found) == found
