"""A key opens until it is revoked, and the file says nothing that helps to make one."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baton import api_keys
from baton.api_keys import KeyFile, find, new_key, read

TEXT, KEY = new_key("team-a", "2026-01-31T12:00:00Z")
OTHER_TEXT, OTHER = new_key("team-b", "2026-01-31T12:00:00Z", operator=True)
KEYS = {KEY.id: KEY, OTHER.id: OTHER}


def written(folder: Path, *keys: api_keys.ApiKey, mode: int = 0o600) -> Path:
    path = folder / "keys.json"
    path.write_text(KeyFile(keys=keys).model_dump_json())
    path.chmod(mode)
    return path


def test_a_key_finds_its_entry_and_no_other() -> None:
    assert (find(KEYS, TEXT), find(KEYS, OTHER_TEXT)) == (KEY, OTHER)
    assert find({OTHER.id: OTHER}, TEXT) is None


def test_keys_are_long_and_never_equal() -> None:
    secrets = {new_key("a", "")[0].split("-", 2)[2] for _ in range(50)}
    assert len(secrets) == 50
    # 256 bits, 6 to a letter.
    assert all(len(secret) == 43 for secret in secrets)


@given(st.text())
def test_nothing_else_opens(text: str) -> None:
    assert find(KEYS, text) is None
    assert find(KEYS, f"bt-{KEY.id}-{text}") is None


@pytest.mark.parametrize(
    "text",
    [TEXT[:-1], TEXT + " ", TEXT.upper(), f"bt-{OTHER.id}-{TEXT.split('-', 2)[2]}", KEY.sha256],
)
def test_nor_does_something_near(text: str) -> None:
    assert find(KEYS, text) is None


def test_a_revoked_key_opens_nothing() -> None:
    gone = KEY.model_copy(update={"revoked": "2026-02-01T00:00:00Z"})
    assert find({KEY.id: gone}, TEXT) is None


def test_the_file_holds_no_secret(tmp_path: Path) -> None:
    path = written(tmp_path, KEY, OTHER)
    assert read(path) == KEYS
    assert TEXT.split("-", 2)[2] not in path.read_text()


def test_no_name_of_a_tenant() -> None:
    for name in ("", "a b", "x" * 65, "-a"):
        with pytest.raises(ValueError, match="tenant"):
            new_key(name, "")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "JSON"),
        ("[]", "object"),
        ('{"version": 2, "keys": []}', "version"),
        ('{"keys": [{"id": "a"}]}', "keys.0"),
        ('{"kyes": []}', "kyes"),
        (json.dumps({"keys": [KEY.model_dump(), KEY.model_dump()]}), "twice"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, text: str, why: str) -> None:
    path = written(tmp_path)
    path.write_text(text)
    with pytest.raises(ValueError, match=why):
        read(path)


def test_a_wrong_entry_is_not_quoted(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.write_text(json.dumps({"keys": [{**KEY.model_dump(), "sha256": TEXT}]}))
    with pytest.raises(ValueError, match=r"keys\.0\.sha256") as caught:
        read(path)
    assert TEXT not in str(caught.value)


def test_nobody_else_may_write_to_it(tmp_path: Path) -> None:
    for mode in (0o620, 0o602, 0o666):
        with pytest.raises(ValueError, match="0600"):
            read(written(tmp_path, KEY, mode=mode))
    assert not api_keys.readable_by_others(written(tmp_path, KEY))
    assert api_keys.readable_by_others(written(tmp_path, KEY, mode=0o644))
