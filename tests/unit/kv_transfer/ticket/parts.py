"""What the model is made of: two processes with their memory, and what is between them."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

from kv_transfer.ticket import words as w
from kv_transfer.ticket.messages import TicketKey
from kv_transfer.ticket.states import SourceState, TargetState

BLOCKS = 6


class BrokenRuleError(AssertionError):
    """Something that must never happen has happened."""


def rule(holds: bool, what: str) -> None:
    if not holds:
        raise BrokenRuleError(what)


class Pool:
    """The blocks of one process: who holds each, and what lies in each layer of it."""

    def __init__(self, layers: int) -> None:
        self.holders: list[Counter] = [Counter() for _ in range(BLOCKS)]
        self.content: list[list[object]] = [[None] * layers for _ in range(BLOCKS)]

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
    done_s: float = 0.0


@dataclass
class Step:
    """A scheduled engine step for one request; `blocks` as they were when it was scheduled."""

    key: TicketKey
    source_epoch: int
    blocks: tuple[int, ...]
    first: int
    layers: int = 0
    """How many are computed."""


@dataclass
class Flight:
    """A write that NIXL was given. It lands piece by piece, whatever happens meanwhile."""

    key: TicketKey
    post: w.Post
    notice: w.Written
    memory: Pool
    left: list[tuple[int, int]]
    """(index into the post's blocks, layer)."""
    doubted: bool = False
    """NIXL called it failed, and lets the rest land or not."""


class Prefill:
    def __init__(self, layers: int) -> None:
        self.pool, self.alive = Pool(layers), True
        self.sources: dict[TicketKey, SourceState] = {}
        self.jobs: dict[TicketKey, Job] = {}
        self.steps: deque[Step] = deque()
        self.reports: deque[Step] = deque()
        self.flights: list[Flight] = []
        self.landed: list[Flight] = []
        self.doubted: list[Flight] = []
        """Flights that NIXL called failed, until a death ends them."""


class Decode:
    def __init__(self, layers: int) -> None:
        self.pool, self.alive = Pool(layers), True
        self.targets: dict[TicketKey, TargetState] = {}
        self.admitted: set[TicketKey] = set()
        self.blocks: dict[TicketKey, list[int]] = {}
        self.peer: dict[TicketKey, Prefill] = {}
        self.running: set[TicketKey] = set()
        self.verifies: list[tuple[TicketKey, w.Verify]] = []
