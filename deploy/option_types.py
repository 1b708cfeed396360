"""Values of options: numbers with a bound, and files that results go to."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from baton.errors import StartupError, StartupFault


def count(text: str) -> int:
    """At least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return int(text)


def above_zero(text: str) -> float:
    """Finite."""
    value = _number(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return value


def from_zero(text: str) -> float:
    """Finite."""
    value = _number(text)
    if not value >= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of at least 0")
    return value


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def writable(*paths: Path | None) -> None:
    """Before the work rather than after it. Raises StartupError."""
    for path in paths:
        if path is not None and path != Path("-"):
            with writing(path):
                path.open("a", encoding="utf-8").close()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raises StartupError where a file or folder cannot be written."""
    try:
        yield
    except OSError as error:
        why = f"{error.filename or path} cannot be written: {error.strerror}"
        raise StartupError(StartupFault.SETTINGS_INVALID, why) from None


def told(file: Path | None, figures: Mapping[str, object], lines: Iterable[str]) -> str:
    """What to print: the lines, or the figures where their file is `-`; else they go there."""
    if file == Path("-"):
        return json.dumps(figures) + "\n"
    if file is not None:
        file.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return "\n".join(lines) + "\n"
