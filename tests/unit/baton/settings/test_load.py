"""Precedence, and errors that name place, key, given value and what is allowed."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baton.errors import StartupError, StartupFault
from baton.settings import Settings, keys, load, yaml12
from baton.settings.sources import Source

valid: dict[str, st.SearchStrategy[object]] = {
    "router.port": st.integers(0, 65535),
    "router.retry_after_s": st.floats(0, 1e6),
    "router.allow_origins": st.lists(st.text("abc:/."), max_size=3),
    "router.disaggregate": st.sampled_from(["auto", "never"]),
    "cluster.name": st.from_regex(r"[a-z0-9-]{1,20}", fullmatch=True),
    "model.trust_remote_code": st.booleans(),
    "model.max_model_len_tokens": st.none() | st.integers(1, 10**6),
    "engine.extra_args": st.dictionaries(st.text("ab_", min_size=1), st.integers() | st.text("x1")),
}
choices = st.fixed_dictionaries({}, optional=valid)


def problems(*args: object) -> tuple[str, ...]:
    with pytest.raises(StartupError) as caught:
        load(*args)  # type: ignore[arg-type]
    assert caught.value.fault is StartupFault.SETTINGS_INVALID
    return caught.value.details


def test_nothing_given_means_defaults() -> None:
    loaded = load(None, {})
    assert loaded.settings == Settings()
    assert {origin.source for origin in loaded.origins.values()} == {Source.DEFAULT}
    assert list(loaded.origins) == list(keys.FIELDS)


def test_the_stronger_source_wins(tmp_path: Path) -> None:
    path = tmp_path / "b.yaml"
    path.write_text("router: {port: 1, routers: 2, retry_after_s: 3}\n")
    environ = {"BATON_ROUTER__PORT": "4", "BATON_ROUTER__ROUTERS": "5"}
    loaded = load(path, environ, {"router.port": 6})
    router = loaded.settings.router
    assert (router.port, router.routers, router.retry_after_s) == (6, 5, 3)
    assert [str(loaded.origins[f"router.{n}"]) for n in ("port", "routers", "retry_after_s")] == [
        "cli command line",
        "env BATON_ROUTER__ROUTERS",
        f"file {path}",
    ]


@given(choices)
def test_environment_and_command_line_mean_the_same(chosen: dict[str, object]) -> None:
    environ = {keys.env_name(key): yaml12.dump(value) for key, value in chosen.items()}
    texts = {key: yaml12.dump(value) for key, value in chosen.items()}
    # A name is free text and is taken as it stands, so it goes in without YAML's quotes.
    if "cluster.name" in chosen:
        name = str(chosen["cluster.name"])
        environ["BATON_CLUSTER__NAME"] = texts["cluster.name"] = name
    settings = load(None, {}, chosen).settings
    assert load(None, environ).settings == settings
    assert load(None, {}, texts).settings == settings
    for key, value in chosen.items():
        found = load(None, {}, chosen).value(key)
        assert (list(found) if isinstance(found, tuple) else found) == value


def test_every_mistake_is_shown_at_once(tmp_path: Path) -> None:
    path = tmp_path / "b.yaml"
    path.write_text("router: {port: 70000, prot: 1}\nmodel: {seed: x, served_name: 5}\n")
    found = problems(path, {"BATON_DECODE__WORKERS": "-1"}, {"cluster.name": ""})
    assert sorted(found) == sorted(
        [
            f"{path}: router.prot: unknown; did you mean router.port?",
            f"{path}: router.port: given 70000; allowed: less than or equal to 65535",
            f"{path}: model.seed: given 'x'; allowed: a valid integer",
            f"{path}: model.served_name: given 5; allowed: a valid string",
            "BATON_DECODE__WORKERS: decode.workers: given -1; allowed: greater than or equal to 0",
            "command line: cluster.name: given ''; allowed: text must match pattern '^[a-z0-9-]+$'",
        ]
    )


def test_checks_across_fields_name_what_is_allowed() -> None:
    (found,) = problems(None, {}, {"decode.workers": 0})
    assert found.startswith("settings: decode.workers is 0; allowed: at least 1")
    (found,) = problems(None, {}, {"prefill.workers": 0, "router.disaggregate": "always"})
    assert "prefill.workers is 0" in found


def test_a_wrong_item_of_a_list_is_named() -> None:
    (found,) = problems(None, {"BATON_ROUTER__ALLOW_ORIGINS": "[a, 5]"})
    assert "router.allow_origins.1: given 5; allowed: a valid string" in found


@given(st.text("abcXYZ_0é", max_size=12), st.text())
def test_any_other_variable_under_the_prefix_is_refused(name: str, text: str) -> None:
    (found,) = problems(None, {f"BATON_{name}": text})
    assert found.startswith(f"environment: BATON_{name}: unknown")


@given(st.sampled_from(sorted(keys.ENV_NAMES)), st.text())
def test_any_value_is_understood_or_refused_by_name(name: str, text: str) -> None:
    try:
        load(None, {name: text})
    except StartupError as error:
        refused = error.details
    else:
        return
    assert any(keys.ENV_NAMES[name] in problem for problem in refused)


def test_an_unknown_key_has_no_value() -> None:
    with pytest.raises(AttributeError):
        load(None, {}).value("router.prot")
