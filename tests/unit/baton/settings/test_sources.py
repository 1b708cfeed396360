"""Each source says what it holds, and every mistake becomes one sentence."""

import os
from pathlib import Path

import pytest

from baton.settings.sources import (
    Given,
    Origin,
    Source,
    from_environ,
    from_file,
    from_overrides,
    process_environ,
)


def write(folder: Path, text: str) -> Path:
    path = folder / "baton.yaml"
    path.write_text(text)
    return path


def test_a_file(tmp_path: Path) -> None:
    path = write(tmp_path, "router: {port: 9000}\nlog:\n")
    layer = from_file(path)
    assert layer.given == {"router.port": Given(9000, Origin(Source.FILE, str(path)))}
    assert layer.problems == ()


@pytest.mark.parametrize("text", ["", "# only a comment\n"])
def test_an_empty_file_says_nothing(tmp_path: Path, text: str) -> None:
    assert from_file(write(tmp_path, text)) == from_file(None)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("routr: {}", "routr: unknown; did you mean router?"),
        ("router: {prot: 1}", "router.prot: unknown; did you mean router.port?"),
        ("router: 5", "router: given 5; allowed: a mapping"),
        ("- a", "not a mapping; allowed: sections model, engine"),
        ("5: {}", "5: unknown; allowed: model, engine"),
        ("log: {}\nlog: {}", "the key 'log' stands twice"),
        ("log: [", "cannot be read"),
    ],
)
def test_mistakes_in_a_file(tmp_path: Path, text: str, problem: str) -> None:
    path = write(tmp_path, text)
    (found,) = from_file(path).problems
    assert found.startswith(f"{path}: ")
    assert problem in found
    assert "\n" not in found


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    assert "No such file" in from_file(tmp_path / "none.yaml").problems[0]
    (tmp_path / "latin").write_bytes(b"\xff")
    assert "cannot be read" in from_file(tmp_path / "latin").problems[0]


@pytest.mark.parametrize(
    ("name", "text", "key", "value"),
    [
        ("BATON_ROUTER__PORT", "9000", "router.port", 9000),
        ("BATON_CLUSTER__NAME", "123", "cluster.name", "123"),
        ("BATON_MODEL__PATH", "null", "model.path", None),
        ("BATON_MODEL__PATH", "", "model.path", None),
        ("BATON_MODEL__PATH", "[odd: name", "model.path", "[odd: name"),
        ("BATON_LOG__LEVEL", "debug", "log.level", "debug"),
        ("BATON_ENGINE__EXTRA_ARGS", "{a: 1}", "engine.extra_args", {"a": 1}),
    ],
)
def test_variables(name: str, text: str, key: str, value: object) -> None:
    layer = from_environ({name: text, "PATH": "/bin"})
    assert layer.given == {key: Given(value, Origin(Source.ENV, name))}


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("BATON_ROUTER_PORT", "1", "did you mean BATON_ROUTER__PORT?"),
        ("BATON_ROUTER__PROT", "1", "did you mean BATON_ROUTER__PORT?"),
        ("BATON_router__port", "1", "BATON_router__port: unknown"),
        ("BATON_ROUTER__PORT", "[", "router.port: given '['; allowed: a YAML value"),
    ],
)
def test_mistakes_in_variables(name: str, text: str, problem: str) -> None:
    (found,) = from_environ({name: text}).problems
    assert problem in found


def test_what_kubernetes_adds_for_services_is_ignored() -> None:
    links = {
        "BATON_PORT": "tcp://10.0.0.7:80",
        "BATON_SERVICE_HOST": "10.0.0.7",
        "BATON_SERVICE_PORT": "80",
        "BATON_SERVICE_PORT_HTTP": "80",
        "BATON_HEAD_SVC_PORT_80_TCP": "tcp://10.0.0.7:80",
        "BATON_HEAD_SVC_PORT_80_TCP_ADDR": "10.0.0.7",
    }
    layer = from_environ(links)
    assert (dict(layer.given), layer.problems) == ({}, ())


def test_overrides_take_text_and_values() -> None:
    layer = from_overrides({"router.port": "9000", "log.level": "debug", "decode.workers": 2})
    assert {key: item.value for key, item in layer.given.items()} == {
        "router.port": 9000,
        "log.level": "debug",
        "decode.workers": 2,
    }
    assert from_overrides({"router.prot": "1"}).problems == (
        "command line: router.prot: unknown; did you mean router.port?",
    )


def test_origins_read_well() -> None:
    assert str(Origin(Source.ENV, "BATON_X__Y")) == "env BATON_X__Y"
    assert str(Origin(Source.DEFAULT)) == "default"


def test_the_environment_is_copied() -> None:
    environ = process_environ()
    assert environ == dict(os.environ)
    assert environ is not os.environ


def test_what_clients_programs_read_is_no_setting() -> None:
    layer = from_environ({"BATON_API_KEY": "bt-1-secret", "BATON_CA_PATH": "ca.pem"})
    assert layer == from_environ({})
