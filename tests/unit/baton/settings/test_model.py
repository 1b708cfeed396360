"""Defaults are valid, strictness holds, and fields that depend on each other are checked."""

import pytest
from pydantic import ValidationError

from baton.settings import keys
from baton.settings.model import (
    ClusterSettings,
    PoolSettings,
    RouterSettings,
    Settings,
    is_loopback,
)


def test_defaults_are_valid_and_stay_on_this_machine() -> None:
    settings = Settings()
    assert (settings.prefill.workers, settings.decode.workers) == (1, 1)
    assert is_loopback(settings.router.host)
    assert is_loopback(settings.cluster.bind_host)


@pytest.mark.parametrize("key", keys.FIELDS)
def test_every_setting_is_documented(key: str) -> None:
    description = keys.FIELDS[key].description or ""
    assert description.endswith(".")
    assert ("null = " in description) == keys.takes_null(key)


@pytest.mark.parametrize(
    ("ending", "word"), [("_s", "econds"), ("_mib", "MiB"), ("_gib", "GiB"), ("_tokens", "okens")]
)
def test_units_in_names_are_explained(ending: str, word: str) -> None:
    named = [key for key in keys.FIELDS if key.endswith(ending)]
    assert named
    assert [key for key in named if word not in (keys.FIELDS[key].description or "")] == []


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().router.port = 1  # type: ignore[misc]


@pytest.mark.parametrize("port", [-1, 65536, "8000", 8000.5, True, None])
def test_numbers_are_strict(port: object) -> None:
    with pytest.raises(ValidationError):
        RouterSettings.model_validate({"port": port})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0, -1])
def test_durations_are_finite_and_positive(value: float) -> None:
    with pytest.raises(ValidationError):
        RouterSettings(request_timeout_s=value)


@pytest.mark.parametrize("name", ["", "Baton", "a b", "a/b", "x" * 64])
def test_cluster_names_are_plain(name: str) -> None:
    with pytest.raises(ValidationError):
        ClusterSettings(name=name)


def test_the_longest_wait_is_not_shorter_than_the_first() -> None:
    with pytest.raises(ValidationError, match=r"at least cluster\.restart_backoff_s"):
        ClusterSettings(restart_backoff_s=40)


def test_decode_workers_alone_can_serve() -> None:
    assert Settings(prefill=PoolSettings(workers=0)).decode.workers == 1


def test_without_decode_workers_nobody_answers() -> None:
    with pytest.raises(ValidationError, match=r"decode\.workers is 0"):
        Settings(decode=PoolSettings(workers=0))


def test_always_disaggregating_needs_a_prefill_worker() -> None:
    with pytest.raises(ValidationError, match=r"prefill\.workers is 0"):
        Settings(prefill=PoolSettings(workers=0), router=RouterSettings(disaggregate="always"))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org", "localhost.evil.org"])
def test_beyond_loopback(host: str) -> None:
    assert not is_loopback(host)
