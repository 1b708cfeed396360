"""Settings as YAML with comments: each value, what it means and where it came from.

The text is itself a valid settings file that gives the same settings again.
"""

import textwrap
from collections.abc import Iterator

from pydantic import BaseModel

from baton.settings import keys, yaml12
from baton.settings.load import Loaded
from baton.settings.sources import Source

_WIDTH = 96


def render(loaded: Loaded, *, only_changed: bool = False) -> str:
    """The effective settings. `only_changed` leaves out what is at its default by origin."""
    lines: list[str] = []
    for section, kind in keys.sections():
        body = list(_body(loaded, section, list(kind.model_fields), only_changed=only_changed))
        if body:
            lines += ["", f"# {(kind.__doc__ or '').splitlines()[0]}", f"{section}:", *body]
    return "\n".join(lines[1:] or ["# Every setting is at its default."]) + "\n"


def _body(loaded: Loaded, section: str, names: list[str], *, only_changed: bool) -> Iterator[str]:
    for name in names:
        key = f"{section}.{name}"
        origin = loaded.origins[key]
        if only_changed and origin.source is Source.DEFAULT:
            continue
        yield from _comment(keys.FIELDS[key].description or "")
        yield f"  {name}: {yaml12.dump(_plain(loaded.value(key)))}  # {_one_line(str(origin))}"


def _comment(description: str) -> list[str]:
    return textwrap.wrap(description, _WIDTH, initial_indent="  # ", subsequent_indent="  # ")


def _plain(value: object) -> object:
    if isinstance(value, BaseModel):
        return value.model_dump(exclude_unset=True)
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _one_line(text: str) -> str:
    # A file name may hold a line break, which would end the comment.
    return " ".join(text.split())
