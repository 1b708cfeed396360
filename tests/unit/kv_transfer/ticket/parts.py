"""What the model is made of: two processes with their memory, and what is between them."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

from kv_transfer.ticket import words as w
from kv_transfer.ticket.states import SourceState, TargetState
from kv_transfer.ticket.words import TicketKey

BLOCKS = 6


class BrokenRuleError(AssertionError):
    """Something that must never happen has happened."""


def rule(holds: bool, what: str) -> None:
    if not holds:
        raise BrokenRuleError(what)


class Pool:
    """The blocks of one process: who holds each, and what lies in it."""

    def __init__(self) -> None:
        self.holders: list[Counter] = [Counter() for _ in range(BLOCKS)]
        self.content: list[object] = [None] * BLOCKS

    def take(self, holder: object, count: int) -> list[int]:
        """Blocks that nobody holds, or none at all."""
        free = [i for i, held in enumerate(self.holders) if not held][:count]
        if len(free) < count:
            return []
        self.hold(holder, free)
        return free

    def hold(self, holder: object, blocks) -> None:
        for block in blocks:
            self.holders[block][holder] += 1

    def give(self, holder: object, blocks) -> None:
        for block in blocks:
            rule(self.holders[block][holder] > 0, f"{holder} gives block {block} back unheld")
            self.holders[block] -= Counter([holder])

    def held(self) -> int:
        return sum(bool(held) for held in self.holders)


@dataclass
class Job:
    """A request in the prefill engine."""

    key: TicketKey
    total: int
    blocks: list[int] = field(default_factory=list)
    computed: int = 0
    done: bool = False


@dataclass
class Step:
    """A scheduled engine step for one request; `blocks` as they were when it was scheduled."""

    key: TicketKey
    source_epoch: int
    blocks: tuple[int, ...]
    first: int


@dataclass
class Flight:
    """A write that NIXL was given. It lands position by position, whatever happens meanwhile."""

    key: TicketKey
    post: w.Post
    notice: w.Written
    memory: Pool
    left: list[int]


class Prefill:
    def __init__(self) -> None:
        self.pool, self.alive = Pool(), True
        self.sources: dict[TicketKey, SourceState] = {}
        self.jobs: dict[TicketKey, Job] = {}
        self.steps: deque[Step] = deque()
        self.reports: deque[Step] = deque()
        self.flights: list[Flight] = []
        self.landed: list[Flight] = []


class Decode:
    def __init__(self) -> None:
        self.pool, self.alive = Pool(), True
        self.targets: dict[TicketKey, TargetState] = {}
        self.blocks: dict[TicketKey, list[int]] = {}
        self.peer: dict[TicketKey, Prefill] = {}
        self.running: set[TicketKey] = set()
        self.verifies: list[tuple[TicketKey, w.Verify]] = []
