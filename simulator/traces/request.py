"""One request of a trace, whatever format it was recorded in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

BLOCK_TOKENS = 512
"""Tokens of one block key: the unit of the Mooncake traces, into which other formats are put."""


class TraceError(ValueError):
    """A trace that cannot be used. Says the file, the line (0 = the file as a whole) and why."""

    def __init__(self, path: Path, line: int, why: str) -> None:
        super().__init__(f"{path}:{line}: {why}" if line else f"{path}: {why}")
        self.path = path
        self.line = line
        self.why = why


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked, when, and how much of it others asked before.

    `blocks` holds one key per block of 512 prompt tokens, the last one perhaps partial. A key
    stands for the prompt up to the end of its block: equal keys, equal prefixes. `session` and
    `tenant` are empty where the trace does not tell.
    """

    number: int
    arrival_s: float
    input_tokens: int
    output_tokens: int
    blocks: tuple[int, ...]
    session: str = ""
    tenant: str = ""

    @property
    def whole_blocks(self) -> int:
        """Blocks that are full: only these can be found in a prefix cache."""
        return self.input_tokens // BLOCK_TOKENS


@dataclass(frozen=True, slots=True)
class Trace:
    """A recorded or generated load, in order of arrival."""

    name: str
    requests: tuple[Request, ...]
    skipped: int = 0
    """Lines of requests that had no prompt or no answer: failures as their services logged them."""

    @property
    def seconds(self) -> float:
        """From the first arrival to the last."""
        return self.requests[-1].arrival_s - self.requests[0].arrival_s if self.requests else 0.0

    @property
    def per_second(self) -> float:
        """The mean load in requests per second; infinite when all come at once."""
        return len(self.requests) / self.seconds if self.seconds else math.inf


def blocks_of(tokens: int) -> int:
    """How many block keys a prompt of so many tokens has."""
    return -(-tokens // BLOCK_TOKENS)
