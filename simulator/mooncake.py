"""Reads traces in the Mooncake format: one JSON object a line, with hashes of 512-token blocks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from baton import prefix_keys as keys
from simulator.reference import BLOCK_TOKENS, Arrival

_START = keys.salt("trace")


class TraceError(Exception):
    """A trace that cannot be used; the message names the line."""


def read(path: Path, *, cut_tokens: int) -> list[Arrival]:
    """The requests of a file at their own times. Raises TraceError, and OSError for no file."""
    with path.open(encoding="utf-8") as lines:
        return list(parse(lines, cut_tokens=cut_tokens))


def parse(lines: Iterable[str], *, cut_tokens: int) -> Iterator[Arrival]:
    """Requests in order of time; prompts longer than `cut_tokens` are cut, blank lines skipped."""
    last_ms, number = 0.0, 0
    for line_number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            at_ms, tokens, blocks = _fields(line)
        except (ValueError, TypeError, KeyError) as error:
            raise TraceError(f"line {line_number}: {error!r}") from error
        if at_ms < last_ms:
            raise TraceError(f"line {line_number}: {at_ms:g} ms comes after {last_ms:g} ms")
        tokens = min(tokens, cut_tokens)
        yield Arrival(number, at_ms / 1000, tokens, blocks[: -(-tokens // BLOCK_TOKENS)])
        last_ms, number = at_ms, number + 1
    if not number:
        raise TraceError("there is no request in it")


def at_rate(arrivals: list[Arrival], per_s: float) -> list[Arrival]:
    """The same requests with all gaps scaled, so that so many come per second on average."""
    start, span = arrivals[0].at_s, arrivals[-1].at_s - arrivals[0].at_s
    scale = len(arrivals) / per_s / span
    return [Arrival(a.number, (a.at_s - start) * scale, a.tokens, a.blocks) for a in arrivals]


def _fields(line: str) -> tuple[float, int, tuple[int, ...]]:
    row = json.loads(line)
    at_ms, tokens = float(row["timestamp"]), int(row["input_length"])
    blocks = keys.of_hashes((int(block) for block in row["hash_ids"]), _START)
    if tokens <= 0 or at_ms < 0:
        raise ValueError(f"a prompt of {tokens} tokens at {at_ms:g} ms")
    if len(blocks) < -(-tokens // BLOCK_TOKENS):
        raise ValueError(f"{len(blocks)} blocks for {tokens} tokens")
    return at_ms, tokens, blocks
