"""Which of the known formats a recording has, told from its first line."""

from __future__ import annotations

from pathlib import Path

from simulator.traces.formats import READERS
from simulator.traces.request import Trace, TraceError

# What the first line of each holds, the rarest first.
_SIGNS = {
    "chat_id": "bailian",
    "hash_ids": "mooncake",
    "ContextTokens": "azure",
    "Request tokens": "burstgpt",
}
_LINE_MAX = 1_000_000


def read_any(path: Path, form: str | None = None, most: int | None = None) -> Trace:
    """A recording, or its first `most` requests. Raises TraceError, also for an unknown format."""
    return READERS[form or format_of(path)](path, most)


def format_of(path: Path) -> str:
    """The name of its format. Raises TraceError."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            line = file.readline(_LINE_MAX)
    except OSError as error:
        raise TraceError(path, 0, error.strerror or "cannot be read") from None
    for sign, form in _SIGNS.items():
        if sign in line:
            return form
    known = ", ".join(READERS)
    raise TraceError(path, 1, f"of no known format; --format says which of {known} it is")
