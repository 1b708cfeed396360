"""Values of options: numbers with a bound, and files that results go to."""

from __future__ import annotations

import argparse
import math
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
            try:
                path.open("a", encoding="utf-8").close()
            except OSError as error:
                why = f"{path} cannot be written: {error.strerror}"
                raise StartupError(StartupFault.SETTINGS_INVALID, why) from None
