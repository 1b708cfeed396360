"""The matrix of faults: what is hit, by what, and when. Pure.

A cell is carried out or skipped with a reason; what is skipped never counts as passed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import product


class Part(StrEnum):
    """What is hit."""

    PREFILL = "prefill"
    DECODE = "decode"
    ROUTER = "router"
    CONTROLLER = "controller"
    TRANSPORT = "transport"


class Fault(StrEnum):
    """What befalls it."""

    KILL = "kill -9"
    STOP = "SIGSTOP 5 s"
    TERM = "SIGTERM"
    SLOW = "slow 10x"
    CUT = "network cut"


class Moment(StrEnum):
    """What the requests are doing that it befalls."""

    IDLE = "idle"
    MID_PREFILL = "mid-prefill"
    MID_TRANSFER = "mid-transfer"
    MID_DECODE = "mid-decode"


WORKERS = frozenset({Part.PREFILL, Part.DECODE})
SERVED = frozenset({Part.ROUTER, Part.CONTROLLER})
DEADLY = frozenset({Fault.KILL, Fault.TERM})


@dataclass(frozen=True, slots=True)
class Cell:
    """One fault at one moment."""

    part: Part
    fault: Fault
    moment: Moment

    def __str__(self) -> str:
        return f"{self.part} {self.fault} {self.moment}"


QUICK = (
    Cell(Part.PREFILL, Fault.KILL, Moment.MID_PREFILL),
    Cell(Part.DECODE, Fault.STOP, Moment.MID_DECODE),
    Cell(Part.PREFILL, Fault.STOP, Moment.MID_TRANSFER),
    Cell(Part.DECODE, Fault.KILL, Moment.MID_DECODE),
)
"""In an order in which what is killed has come back when it is needed."""

_NO_PROCESS = "the transport has no process of its own: it ends and stops with its engine"
_NO_NAMESPACE = "cutting off one process of a machine takes a network namespace"
_NOT_APART = "every request is in every phase under load: its mid-decode cell stands for it"
_LINES_ONLY = "only messages of a handoff under way can be lost or late"


def matrix() -> Iterator[Cell]:
    """Every cell, whether or not it can be carried out; the moments of one fault together."""
    return (Cell(*each) for each in product(Part, Fault, Moment))


def skipped(cell: Cell) -> str | None:
    """Why this cell cannot be carried out on one machine without privileges."""
    if cell.part in WORKERS:
        return None
    if cell.part is Part.TRANSPORT:
        return _skipped_transport(cell)
    if cell.fault is Fault.CUT:
        return _NO_NAMESPACE
    if cell.moment not in (Moment.IDLE, Moment.MID_DECODE):
        return _NOT_APART
    return None


def _skipped_transport(cell: Cell) -> str | None:
    if cell.fault not in (Fault.SLOW, Fault.CUT):
        return _NO_PROCESS
    return None if cell.moment is Moment.MID_TRANSFER else _LINES_ONLY


def feasible(parts: frozenset[Part]) -> list[Cell]:
    """The cells of these parts that can be carried out."""
    return [cell for cell in matrix() if cell.part in parts and skipped(cell) is None]
