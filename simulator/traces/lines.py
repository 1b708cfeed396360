"""What all readers share: lines with their numbers, typed fields, and order.

A reader turns each line into a `Row`; `collect` refuses what is out of order and numbers the rest.
Everything that is wrong ends in a `TraceError` that names file and line.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from simulator.traces.request import Request, Trace, TraceError, blocks_of

TOKENS_MAX = 10_000_000
_NUMBER_MAX = 1e13
_KEY_BITS = 127
_SHOWN = 40
"""Characters of a wrong value that a message shows."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line as its format tells it. `blocks` is None where the format knows no prefixes."""

    line: int
    at_s: float
    input_tokens: int
    output_tokens: int
    blocks: tuple[int, ...] | None = None
    session: str = ""
    tenant: str = ""


class Fields:
    """The fields of one line, taken out with their type checked. Raises TraceError."""

    def __init__(self, path: Path, line: int, fields: Mapping[str, Any]) -> None:
        self.path = path
        self.line = line
        self._fields = fields

    def error(self, why: str) -> TraceError:
        """An error that names this line."""
        return TraceError(self.path, self.line, why)

    def text(self, name: str) -> str:
        """The field as text. Raises when it is missing."""
        value = self._fields.get(name)
        if value is None:
            raise self.error(f"{name} is missing")
        return str(value).strip()

    def optional(self, name: str) -> str:
        """The field as text, empty when it is missing."""
        value = self._fields.get(name)
        return "" if value is None else str(value).strip()

    def number(self, name: str) -> float:
        """A finite number, at least 0; at most what is still exact to a thousandth."""
        text = self.text(name)
        try:
            value = float(text)
        except ValueError:
            raise self.error(f"{name} is not a number: {text[:_SHOWN]!r}") from None
        if not (math.isfinite(value) and value >= 0):
            raise self.error(f"{name} has to be a finite number of at least 0: {text[:_SHOWN]!r}")
        if value > _NUMBER_MAX:
            raise self.error(f"{name} has to be at most {_NUMBER_MAX:g}: {value:g}")
        return value

    def tokens(self, name: str) -> int:
        """A whole number of tokens, at least 0, and no more than any model could be given."""
        value = self.number(name)
        if value != int(value):
            raise self.error(f"{name} has to be a whole number: {value!r}")
        if value > TOKENS_MAX:
            raise self.error(f"{name} has to be at most {TOKENS_MAX}: {value:g}")
        return int(value)

    def keys(self, name: str) -> tuple[int, ...]:
        """A list of whole numbers of at most 127 bits, which is what a key is made from."""
        value = self._fields.get(name)
        if not isinstance(value, list) or not all(type(key) is int for key in value):
            raise self.error(f"{name} has to be a list of whole numbers")
        if any(key.bit_length() > _KEY_BITS for key in value):
            raise self.error(f"{name} holds a number of more than {_KEY_BITS} bits")
        return tuple(value)


def json_lines(path: Path) -> Iterator[Fields]:
    """The objects of a JSON Lines file. Raises TraceError."""
    for line, text in _lines(path):
        if not text.strip():
            raise TraceError(path, line, "the line is empty")
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            # Beside bad JSON: numbers of thousands of digits, lists within lists without end.
            why = getattr(error, "msg", "numbers too long or values too deep")
            raise TraceError(path, line, f"not JSON: {why}") from None
        if not isinstance(value, dict):
            raise TraceError(path, line, "not a JSON object")
        yield Fields(path, line, value)


def csv_lines(path: Path, needed: Sequence[str]) -> Iterator[Fields]:
    """The lines of a CSV file by the names of its first line. Raises TraceError."""
    names: list[str] | None = None
    for line, text in _lines(path):
        try:
            cells = next(csv.reader([text]), [])
        except csv.Error as error:
            raise TraceError(path, line, f"not CSV: {error}") from None
        if names is None:
            names = [cell.strip() for cell in cells]
            missing = [name for name in needed if name not in names]
            if missing:
                raise TraceError(path, line, f"no column {', '.join(missing)}")
            continue
        if not cells:
            raise TraceError(path, line, "the line is empty")
        if len(cells) != len(names):
            raise TraceError(path, line, f"{len(cells)} fields instead of {len(names)}")
        yield Fields(path, line, dict(zip(names, cells, strict=True)))


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines without their ends. Raises TraceError for what is not UTF-8 or not there."""
    try:
        # utf-8-sig: spreadsheets put a byte order mark before the first column's name.
        with path.open(encoding="utf-8-sig", newline=None) as file:
            for line, text in enumerate(file, start=1):
                yield line, text.rstrip("\n")
    except UnicodeDecodeError:
        raise TraceError(path, 0, "not a text file in UTF-8") from None
    except OSError as error:
        raise TraceError(path, 0, error.strerror or "cannot be read") from None


def collect(
    path: Path, fields: Iterable[Fields], parse: Callable[[Fields], Row], most: int | None = None
) -> Trace:
    """The trace: first arrival at 0, at most `most` requests, failures skipped and counted.

    Raises TraceError for an empty file, times that step back, and keys that do not fit the prompt.
    """
    requests: list[Request] = []
    skipped, first_s, last_s = 0, 0.0, -math.inf
    # Prompts without known prefixes share nothing; negative keys cannot meet recorded ones.
    fresh = count(-1, -1)
    for row in map(parse, fields):
        if row.at_s < last_s:
            raise TraceError(path, row.line, f"{row.at_s} s comes after {last_s} s")
        first_s = row.at_s if last_s == -math.inf else first_s
        last_s = row.at_s
        if not (row.input_tokens and row.output_tokens):
            skipped += 1
            continue
        requests.append(_request(path, row, len(requests), first_s, fresh))
        if len(requests) == most:
            break
    if not requests:
        raise TraceError(path, 0, "holds no request")
    return Trace(path.stem, tuple(requests), skipped)


def _request(path: Path, row: Row, number: int, first_s: float, fresh: Iterator[int]) -> Request:
    wanted = blocks_of(row.input_tokens)
    blocks = row.blocks
    if blocks is None:
        blocks = tuple(next(fresh) for _ in range(wanted))
    elif len(blocks) != wanted:
        why = f"{len(blocks)} keys for {row.input_tokens} tokens, {wanted} expected"
        raise TraceError(path, row.line, why)
    return Request(
        number=number,
        arrival_s=row.at_s - first_s,
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        blocks=blocks,
        session=row.session,
        tenant=row.tenant,
    )
