"""Where settings come from: a file, the environment, the command line.

Each source becomes a `Layer` of dotted keys and values, with its problems as sentences; nothing
here raises for a mistake of the user, so that all mistakes are shown at once. `load` merges the
layers and checks the values.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import yaml

from baton.settings import keys, yaml12


class Source(StrEnum):
    """A kind of place that a value can come from, the weakest first."""

    DEFAULT = "default"
    FILE = "file"
    ENV = "env"
    CLI = "cli"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where one value came from: `where` is the file, the variable or the option; '' = default."""

    source: Source
    where: str = ""

    def __str__(self) -> str:
        return f"{self.source.value} {self.where}".rstrip()


@dataclass(frozen=True, slots=True)
class Given:
    """A value as its source gave it, not yet checked."""

    value: object
    origin: Origin


@dataclass(frozen=True, slots=True)
class Layer:
    """What one source says, by dotted key, and what is wrong with it."""

    given: Mapping[str, Given] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


# Kubernetes gives every pod variables about each service of its namespace. For a service whose
# name starts with "baton" they carry our prefix, and they are nobody's mistake.
_SERVICE_LINK = re.compile(
    r"BATON_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
# What the command line and clients' programs take from the environment; no settings of a cluster.
CLIENT_VARIABLES = frozenset({"BATON_API_KEY", "BATON_CA_PATH"})
_SERVICE_URL = re.compile(r"(tcp|udp|sctp)://.*")


def process_environ() -> Mapping[str, str]:
    """A copy of this process's environment. Settings are the only reader of it."""
    return dict(os.environ)


def extend_process_environ(variables: Mapping[str, str]) -> None:
    """Set variables that libraries read, before those libraries are imported."""
    os.environ.update(variables)


def from_file(path: Path | None) -> Layer:
    """The settings in a YAML file; None is no file. A file that cannot be read is a problem."""
    if path is None:
        return Layer()
    try:
        document = yaml12.parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        return Layer(problems=(f"{path}: cannot be read: {' '.join(str(error).split())}",))
    if document is None:
        return Layer()
    if not isinstance(document, dict):
        allowed = ", ".join(name for name, _ in keys.sections())
        return Layer(problems=(f"{path}: not a mapping; allowed: sections {allowed}",))
    return _collect([_section(path, name, body) for name, body in document.items()])


def from_environ(environ: Mapping[str, str]) -> Layer:
    """The settings in variables `BATON_SECTION__FIELD`; each value is YAML."""
    ours = {
        name: text
        for name, text in environ.items()
        if name.startswith(keys.ENV_PREFIX) and name not in CLIENT_VARIABLES
    }
    return _collect(
        [_variable(name, text) for name, text in ours.items() if not _service_link(name, text)]
    )


def from_overrides(overrides: Mapping[str, object]) -> Layer:
    """The settings given by dotted key. Text is read as in the environment, the rest as it is."""
    return _collect([_override(key, value) for key, value in overrides.items()])


def _section(path: Path, name: object, body: object) -> Layer:
    names = {section: set(kind.model_fields) for section, kind in keys.sections()}
    if not isinstance(name, str) or name not in names:
        return Layer(problems=(f"{path}: {keys.unknown(str(name), names)}",))
    if body is None:
        return Layer()
    if not isinstance(body, dict):
        return Layer(problems=(f"{path}: {name}: given {body!r}; allowed: a mapping",))
    origin = Origin(Source.FILE, str(path))
    return _collect([_field(origin, f"{name}.{key}", value) for key, value in body.items()])


def _field(origin: Origin, key: str, value: object) -> Layer:
    if key in keys.FIELDS:
        return Layer({key: Given(value, origin)})
    return Layer(problems=(f"{origin.where}: {keys.unknown(key, keys.FIELDS)}",))


def _variable(name: str, text: str) -> Layer:
    if name in keys.ENV_NAMES:
        return _text(keys.ENV_NAMES[name], text, Origin(Source.ENV, name))
    return Layer(problems=(f"environment: {keys.unknown(name, keys.ENV_NAMES, '__')}",))


def _override(key: str, value: object) -> Layer:
    origin = Origin(Source.CLI, "command line")
    if isinstance(value, str) and key in keys.FIELDS:
        return _text(key, value, origin)
    return _field(origin, key, value)


def _text(key: str, text: str, origin: Origin) -> Layer:
    try:
        value = yaml12.parse(text)
    except yaml.YAMLError as error:
        value = error
    if keys.takes_text(key) and not (value is None and keys.takes_null(key)):
        return Layer({key: Given(text, origin)})
    if isinstance(value, yaml.YAMLError):
        return Layer(problems=(f"{origin.where}: {key}: given {text!r}; allowed: a YAML value",))
    return Layer({key: Given(value, origin)})


def _service_link(name: str, text: str) -> bool:
    if name in keys.ENV_NAMES:
        return False
    return _SERVICE_LINK.fullmatch(name) is not None or (
        name.endswith("_PORT") and _SERVICE_URL.fullmatch(text) is not None
    )


def _collect(layers: list[Layer]) -> Layer:
    given = {key: value for layer in layers for key, value in layer.given.items()}
    return Layer(given, tuple(problem for layer in layers for problem in layer.problems))
