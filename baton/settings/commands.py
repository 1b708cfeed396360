"""What `baton config show` and `baton config check` do, without any command line.

Both take the sources as arguments and return text; printing and exit codes are the caller's.
"""

from collections.abc import Mapping
from pathlib import Path

from baton.errors import StartupError
from baton.settings.load import load
from baton.settings.render import render


def show(
    path: Path | None,
    environ: Mapping[str, str],
    overrides: Mapping[str, object],
    *,
    only_changed: bool = False,
) -> str:
    """The settings in effect as commented YAML. Raises StartupError if they are not valid."""
    return render(load(path, environ, overrides), only_changed=only_changed)


def check(
    path: Path | None, environ: Mapping[str, str], overrides: Mapping[str, object]
) -> list[str]:
    """Every problem of the settings, one sentence each; empty = they are valid."""
    try:
        load(path, environ, overrides)
    except StartupError as error:
        return list(error.details)
    return []
