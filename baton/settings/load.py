"""Settings from their sources: command line over environment over file over defaults.

`load` either returns settings that are known to be valid or raises one error with every mistake
in it, each with its place, its key, the given value and what is allowed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from baton.errors import StartupError, StartupFault
from baton.settings import keys, sources
from baton.settings.model import Settings
from baton.settings.sources import Given, Origin, Source

_NOTHING: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Loaded:
    """Valid settings, and where each value came from, by dotted key."""

    settings: Settings
    origins: Mapping[str, Origin]

    def value(self, key: str) -> object:
        """The value of one setting. Raises AttributeError for an unknown key."""
        section, _, name = key.partition(".")
        value: object = getattr(getattr(self.settings, section), name)
        return value


def load(
    path: Path | None,
    environ: Mapping[str, str],
    overrides: Mapping[str, object] = _NOTHING,
) -> Loaded:
    """Settings in effect.

    `path` is a YAML file, None for none. `overrides` maps dotted keys to values; text in it is
    read as in the environment. Raises StartupError (SETTINGS_INVALID) with all problems.
    """
    layers = [
        sources.from_file(path),
        sources.from_environ(environ),
        sources.from_overrides(overrides),
    ]
    given = {key: value for layer in layers for key, value in layer.given.items()}
    problems = [problem for layer in layers for problem in layer.problems]
    checked = _check(given)
    if problems or isinstance(checked, ValidationError):
        raise _invalid(problems + _explain(checked, given))
    default = Origin(Source.DEFAULT)
    origins = {key: given[key].origin if key in given else default for key in keys.FIELDS}
    return Loaded(checked, MappingProxyType(origins))


def _check(given: Mapping[str, Given]) -> Settings | ValidationError:
    tree: dict[str, dict[str, object]] = {}
    for key, item in given.items():
        section, _, name = key.partition(".")
        tree.setdefault(section, {})[name] = item.value
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        return error


def _invalid(problems: list[str]) -> StartupError:
    count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
    return StartupError(
        StartupFault.SETTINGS_INVALID, f"settings: {count}", details=tuple(problems)
    )


def _explain(checked: Settings | ValidationError, given: Mapping[str, Given]) -> list[str]:
    if isinstance(checked, Settings):
        return []
    errors = checked.errors(include_url=False, include_context=False)
    return [_sentence(error["loc"], error["type"], error, given) for error in errors]


def _sentence(
    loc: tuple[int | str, ...], kind: str, error: Mapping[str, Any], given: Mapping[str, Given]
) -> str:
    key = ".".join(str(part) for part in loc)
    if kind == "value_error":
        # Checks across fields name their keys, values and what is allowed themselves.
        return f"settings: {error['msg'].removeprefix('Value error, ')}"
    allowed = error["msg"].removeprefix("Input should be ").replace("String should", "text must")
    item = given.get(".".join(str(part) for part in loc[:2]))
    where = item.origin.where if item is not None else "settings"
    return f"{where}: {key}: given {error['input']!r}; allowed: {allowed}"
