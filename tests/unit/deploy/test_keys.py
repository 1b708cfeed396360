"""`baton keys`: the secret is shown once, and the file is never half written."""

from __future__ import annotations

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from baton import api_keys
from baton.settings.access import AccessSettings
from deploy import cli, keys

Out = pytest.CaptureFixture[str]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def run(file: Path, *words: str) -> int:
    return cli.main(["keys", *words, "--set", f"access.keys_path={file}"])


def test_a_key_is_made_listed_and_revoked(file: Path, capsys: Out) -> None:
    assert run(file, "add", "team-a") == 0
    printed = capsys.readouterr()
    text = printed.out.strip()
    key = api_keys.find(api_keys.read(file), text)
    assert key is not None
    assert (key.tenant, key.operator) == ("team-a", False)
    assert f"[key {key.id} of team-a" in printed.err
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert run(file, "list") == 0
    shown = capsys.readouterr().out
    assert key.id in shown
    assert "the API" in shown
    assert run(file, "revoke", key.id) == 0
    assert capsys.readouterr().out == f"revoked {key.id} of team-a\n"
    assert api_keys.find(api_keys.read(file), text) is None
    first = api_keys.read(file)[key.id].revoked
    assert run(file, "revoke", key.id) == 0
    assert api_keys.read(file)[key.id].revoked == first


def test_for_programs(file: Path, capsys: Out) -> None:
    assert run(file, "add", "ops", "--operator", "--json") == 0
    made = json.loads(capsys.readouterr().out)
    assert made["operator"] is True
    assert api_keys.find(api_keys.read(file), made.pop("key")) is not None
    assert run(file, "list", "--json") == 0
    assert json.loads(capsys.readouterr().out) == [made]
    assert "sha256" not in made
    assert run(file, "revoke", made["id"], "--json") == 0
    assert json.loads(capsys.readouterr().out)["revoked"] is not None


def test_neither_secret_nor_hash_is_ever_shown_again(file: Path, capsys: Out) -> None:
    run(file, "add", "team-a")
    secret = capsys.readouterr().out.strip().split("-", 2)[2]
    (key,) = api_keys.read(file).values()
    run(file, "list")
    run(file, "list", "--json")
    cli.main(["config", "show", "--all", "--set", f"access.keys_path={file}"])
    told = capsys.readouterr()
    for text in (secret, key.sha256):
        assert text not in told.out + told.err
    assert secret not in file.read_text()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["add", "two words"], "no name of a tenant"),
        (["revoke", "nobody"], "there is no key 'nobody'"),
    ],
)
def test_mistakes(file: Path, words: list[str], why: str, capsys: Out) -> None:
    assert run(file, *words) == 2
    assert why in capsys.readouterr().err
    assert not file.exists()


def test_without_a_file_nothing_is_guessed(capsys: Out) -> None:
    assert cli.main(["keys", "list"]) == 2
    assert "access.keys_path is null" in capsys.readouterr().err


def test_a_broken_file_is_left_alone(file: Path, capsys: Out) -> None:
    file.write_text("{")
    file.chmod(0o600)
    assert run(file, "add", "team-a") == 2
    assert f"access.keys_path is {file}" in capsys.readouterr().err
    assert file.read_text() == "{"


def test_many_at_once_lose_nothing(file: Path) -> None:
    access = AccessSettings(keys_path=str(file))
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda n: keys.add(access, f"t{n}", operator=False), range(24)))
    assert set(api_keys.read(file)) == {key.id for _, key in made}
    assert [one.name for one in file.parent.iterdir() if one.suffix == ".tmp"] == []


def test_whoever_could_read_the_file_can_read_it_still(file: Path) -> None:
    access = AccessSettings(keys_path=str(file))
    keys.add(access, "team-a", operator=False)
    assert file.stat().st_mode & 0o777 == 0o600
    file.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(file, 4321, 4322)
    was = file.stat()
    keys.add(access, "team-b", operator=False)
    found = file.stat()
    assert (found.st_mode, found.st_uid, found.st_gid) == (was.st_mode, was.st_uid, was.st_gid)


def test_a_link_stays_a_link(file: Path, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere.json"
    file.symlink_to(target)
    keys.add(AccessSettings(keys_path=str(file)), "a", operator=False)
    keys.add(AccessSettings(keys_path=str(file)), "b", operator=False)
    assert file.is_symlink()
    assert len(api_keys.read(target)) == 2


def test_to_look_needs_no_right_to_write(file: Path, capsys: Out) -> None:
    run(file, "add", "team-a")
    lock = file.with_name("keys.json.lock")
    lock.unlink()
    # A folder in its place: nobody can open that for writing.
    lock.mkdir()
    assert run(file, "list") == 0
    assert run(file, "add", "team-b") == 2
    assert "keys.json" in capsys.readouterr().err
