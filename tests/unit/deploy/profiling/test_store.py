"""The file is whole after every point, and gone on with only where it fits."""

import json
from pathlib import Path

import pytest

from baton.errors import StartupError
from deploy.profiling.meter import PrefillTimes, StepTimes
from deploy.profiling.points import Decode, Prefill
from deploy.profiling.store import ProfileFile

MINE = {"device": "this one"}


def test_rows_are_those_of_profiles(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    file = ProfileFile.open(path, MINE, again=False)
    file.describe("about", {"kv_bytes_per_token": 4096})
    file.add(Prefill(64), PrefillTimes((0.1, 0.2), 0))
    file.add(Prefill(256, 1024), PrefillTimes((0.3,), 1024))
    # Part of the prefix had gone, and all of it.
    file.add(Prefill(256, 2048), PrefillTimes((0.4,), 1920))
    file.add(Prefill(256, 4096), PrefillTimes((0.5,), 0))
    file.add(Prefill(512, prompts=4), PrefillTimes((0.6,), 0))
    file.add(Decode(4, 512), StepTimes(0.0123456789, 545, 64))
    file.add(Decode(8, 512), None)
    file.add_transfers("transfer", [{"op": "WRITE", "block_bytes": 9, "GBps": 1.5}])
    data = json.loads(path.read_text())
    assert data["about"] == "about"
    assert data["model"] == {"kv_bytes_per_token": 4096}
    assert data["prefill"] == [
        {"tokens": 64, "seconds": [0.1, 0.2]},
        {"tokens": 4352, "seconds": [0.5]},
    ]
    assert data["prefill_after_cached_prefix"] == [
        {"cached_tokens": 1024, "new_tokens": 256, "seconds": [0.3]},
        {"cached_tokens": 1920, "new_tokens": 384, "seconds": [0.4]},
    ]
    assert data["batched_prefill"] == [{"prompts": 4, "tokens_each": 512, "seconds": [0.6]}]
    step = {"batch": 4, "context_tokens": 545, "seconds_per_step": 0.0123457}
    assert data["decode_step"] == [step]
    assert data["transfer"][0]["op"] == "WRITE"
    assert [p.name for p in tmp_path.iterdir()] == ["p.json"]


def test_an_interrupted_file_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    ProfileFile.open(path, MINE, again=False).add(Prefill(64), PrefillTimes((0.1,), 0))
    again = ProfileFile.open(path, MINE, again=False)
    assert again.has(Prefill(64))
    assert not again.has(Prefill(128))
    again.add(Prefill(128), PrefillTimes((0.2,), 0))
    assert [row["tokens"] for row in json.loads(path.read_text())["prefill"]] == [64, 128]


def test_what_is_not_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    file = ProfileFile.open(path, MINE, again=False)
    file.add(Prefill(64), PrefillTimes((0.1,), 0))
    with pytest.raises(StartupError, match="something else"):
        ProfileFile.open(path, {"device": "another"}, again=False)
    file.finish()
    with pytest.raises(StartupError, match="complete"):
        ProfileFile.open(path, MINE, again=False)
    assert not ProfileFile.open(path, MINE, again=True).has(Prefill(64))
    for again in (False, True):
        path.write_text("{ not json")
        with pytest.raises(StartupError, match="no profile"):
            ProfileFile.open(path, MINE, again=again)
        path.write_text('{"prefill": []}')
        with pytest.raises(StartupError, match="not measured by"):
            ProfileFile.open(path, MINE, again=again)
    with pytest.raises(StartupError, match="cannot be written"):
        ProfileFile.open(tmp_path / "no" / "folder", MINE, again=False)


def test_what_is_there_is_kept_until_there_is_something_else(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    ProfileFile.open(path, MINE, again=False).describe("about", {})
    assert not list(tmp_path.iterdir())
    ProfileFile.open(path, MINE, again=False).add(Prefill(64), PrefillTimes((0.1,), 0))
    before = path.read_text()
    file = ProfileFile.open(path, MINE, again=True)
    file.describe("about", {})
    assert path.read_text() == before
    file.add(Prefill(128), PrefillTimes((0.2,), 0))
    assert [row["tokens"] for row in json.loads(path.read_text())["prefill"]] == [128]
    assert [p.name for p in tmp_path.iterdir()] == ["p.json"]
