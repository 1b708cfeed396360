"""What UCX prints about itself, read: which transport carries what, and why one cannot be used.

With UCX_PROTO_INFO=y UCX prints a table for each kind of operation at its first use:

    | agent intra-node cfg#1                                          |
    | remote memory write by ucp_put*(multi) from host memory to host |
    +--------+-------------+------------------------------------------+
    | Range  | Description |                  Config                  |
    +--------+-------------+------------------------------------------+
    | 0..inf | zero-copy   | cma/memory                               |
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

_TITLE = re.compile(r"remote memory (write|read) by ucp_(?:put|get)\*")
_ANY_TITLE = re.compile(r"(?:message|memory \w+|\w+) by ucp_\w+")
_ROW = re.compile(r"\|\s*(\d+[KMG]?)(?:\.\.(\d+[KMG]?|inf))?\s*\|\s*(.*?)\s*\|\s*(.*?)\s*\|\s*$")
_SELF = re.compile(r"\bself cfg#")
_TRANSPORT = re.compile(r"\b([a-z][a-z0-9_]*)/")
_COMPLAINT = re.compile(r"\bUCX\s+(?:ERROR|WARN|FATAL)\s+(.*)")
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}
_OPERATIONS = {"write": "WRITE", "read": "READ"}

EMULATED = "software emulation"
"""UCX's description of transfers without a transport for them: slow, and the peer has to help."""


@dataclass(frozen=True, slots=True)
class Carrier:
    """What carries an operation's pieces of some sizes."""

    operation: str
    """WRITE or READ."""
    at_least: int
    at_most: float
    how: str
    """UCX's description, such as "zero-copy"."""
    config: str
    """UCX's configuration, such as "52% on tcp/lo and 48% on tcp/eth0"."""

    @property
    def transports(self) -> tuple[str, ...]:
        """Names of UCX's transports, each once."""
        return tuple(dict.fromkeys(_TRANSPORT.findall(self.config)))


def carriers(log: str) -> list[Carrier]:
    """All rows about writing and reading a peer's memory, in the order printed."""
    found: list[Carrier] = []
    operation: str | None = None
    own = False
    for line in log.splitlines():
        own = bool(_SELF.search(line)) if "cfg#" in line else own
        if title := _TITLE.search(line):
            # What an agent does to itself is set up first, and tells nothing about a peer.
            operation = None if own else _OPERATIONS[title[1]]
        elif _ANY_TITLE.search(line):
            operation = None
        elif operation is not None and (row := _ROW.search(line)):
            found.append(_carrier(operation, row))
    return found


def carrier_of(found: Iterable[Carrier], operation: str, piece_bytes: int) -> Carrier | None:
    """What carries pieces of this size; the last word counts, since set-up comes in steps."""
    fitting = [
        each
        for each in found
        if each.operation == operation and each.at_least <= piece_bytes <= each.at_most
    ]
    return fitting[-1] if fitting else None


def complaints(log: str) -> list[str]:
    """UCX's warnings and errors, each once, without time and place."""
    lines = (match[1].strip() for match in map(_COMPLAINT.search, log.splitlines()) if match)
    return list(dict.fromkeys(lines))


def remedy(found: Iterable[str]) -> str:
    """What to do about UCX's complaints; empty where nothing is known."""
    text = " ".join(found)
    if "no active messages transport" in text:
        return "NIXL also needs a transport for messages: add tcp, as in tcp,shm or tcp,cuda_ipc."
    if "no usable transports" in text or "is not available" in text:
        return "Name transports that UCX has on this machine."
    return ""


def _carrier(operation: str, row: re.Match[str]) -> Carrier:
    low, high = _bytes(row[1]), row[2]
    at_most = low if high is None else math.inf if high == "inf" else _bytes(high)
    return Carrier(operation, low, at_most, row[3], row[4])


def _bytes(text: str) -> int:
    return int(text[:-1]) * _UNITS[text[-1]] if text[-1] in _UNITS else int(text)
