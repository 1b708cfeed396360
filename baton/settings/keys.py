"""The names of settings: dotted keys, environment variables, and near misses.

A key is `section.field`; its environment variable is `BATON_SECTION__FIELD`. Both lists come from
the models, so that no name is written twice.
"""

import difflib
from collections.abc import Iterable, Iterator
from typing import get_args

from pydantic.fields import FieldInfo

from baton.settings.model import Settings
from baton.settings.section import Section

ENV_PREFIX = "BATON_"


def sections() -> Iterator[tuple[str, type[Section]]]:
    """The groups of settings in their order, by name."""
    for name, info in Settings.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, Section):
            yield name, info.annotation


def _fields() -> Iterator[tuple[str, FieldInfo]]:
    for section, kind in sections():
        for name, info in kind.model_fields.items():
            yield f"{section}.{name}", info


FIELDS: dict[str, FieldInfo] = dict(_fields())


def env_name(key: str) -> str:
    """The environment variable that overrides the setting `key`."""
    return ENV_PREFIX + key.replace(".", "__").upper()


ENV_NAMES: dict[str, str] = {env_name(key): key for key in FIELDS}


def takes_text(key: str) -> bool:
    """Whether the setting is free text, so that `123` means three characters."""
    annotation = FIELDS[key].annotation
    return annotation is str or set(get_args(annotation)) == {str, type(None)}


def takes_null(key: str) -> bool:
    """Whether null is a value of this setting."""
    return type(None) in get_args(FIELDS[key].annotation)


def nearest(name: str, known: Iterable[str], separator: str = ".") -> str | None:
    """The known name that was most likely meant, None if none is near.

    A right field in a wrong section wins over a similar spelling.
    """
    names = list(known)
    leaf = name.rpartition(separator)[2]
    same = [other for other in names if other.rpartition(separator)[2] == leaf]
    close = difflib.get_close_matches(name, same, 1, 0.0) or difflib.get_close_matches(name, names)
    return close[0] if close else None


def unknown(name: str, known: Iterable[str], separator: str = ".") -> str:
    """The sentence that refuses an unknown name."""
    names = list(known)
    near = nearest(name, names, separator)
    if near is not None:
        return f"{name}: unknown; did you mean {near}?"
    if len(names) > 15:
        return f"{name}: unknown; `baton config show` lists all settings"
    return f"{name}: unknown; allowed: {', '.join(names)}"
