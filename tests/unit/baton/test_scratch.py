"""Only what a dead process of this user and namespace left may be swept."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from baton.scratch import orphaned, scratch_path

DEAD = 4711


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def _alive(pid: int) -> bool:
    return pid != DEAD


def test_what_the_dead_left_is_found(folder: Path) -> None:
    file = scratch_path("start", DEAD).with_suffix(".jsonl")
    file.touch()
    of_engine = Path(tempfile.mkdtemp(prefix=f"{scratch_path('engine', DEAD).name}-"))
    assert of_engine.parent == folder
    assert sorted(orphaned(_alive)) == sorted([file, of_engine])


def test_what_lives_or_is_not_ours_stays(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch_path("start", os.getpid()).touch()
    # A longer process id that begins alike, another container, another program.
    scratch_path("start", DEAD * 10).touch()
    (folder / f"baton-start-1-{DEAD}").touch()
    (folder / f"baton-{DEAD}").touch()
    assert list(orphaned(_alive)) == []
    scratch_path("start", DEAD).touch()
    monkeypatch.setattr(os, "getuid", lambda: -1)
    assert list(orphaned(_alive)) == []
