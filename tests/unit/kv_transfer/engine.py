"""A stand-in for vLLM's scheduler: requests, steps, and a pool that counts references."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kv_transfer.orders import Orders
from kv_transfer.scheduling import SchedulingSide, transfer_params
from kv_transfer.ticket.messages import TicketKey

BLOCK = 4
PEER = b"\x00somebody"


@dataclass
class Block:
    """One block of the pool."""

    block_id: int
    references: int = 0


class Pool:
    """Counts references as vLLM's block pool does."""

    def __init__(self, size: int = 64) -> None:
        self.blocks = [Block(i) for i in range(size)]

    def touch(self, blocks: Iterable[Block]) -> None:
        for block in blocks:
            block.references += 1

    def free_blocks(self, ordered_blocks: Iterable[Block]) -> None:
        for block in ordered_blocks:
            assert block.references > 0, "freed more often than touched"
            block.references -= 1

    @property
    def held(self) -> dict[int, int]:
        """Block → references, of blocks that somebody holds."""
        return {b.block_id: b.references for b in self.blocks if b.references}


@dataclass
class Request:
    """As far as the connector looks at it."""

    request_id: str
    num_tokens: int
    kv_transfer_params: dict[str, Any] | None


@dataclass
class New:
    """A request in its first step."""

    req_id: str
    block_ids: tuple[list[int], ...]
    num_computed_tokens: int


@dataclass
class Cached:
    """Requests in later steps."""

    req_ids: list[str] = field(default_factory=list)
    resumed_req_ids: set[str] = field(default_factory=set)
    new_block_ids: list[tuple[list[int], ...] | None] = field(default_factory=list)
    num_computed_tokens: list[int] = field(default_factory=list)


@dataclass
class Output:
    """What the scheduler decided for one step."""

    scheduled_new_reqs: list[New] = field(default_factory=list)
    scheduled_cached_reqs: Cached = field(default_factory=Cached)
    num_scheduled_tokens: dict[str, int] = field(default_factory=dict)

    @property
    def total_num_scheduled_tokens(self) -> int:
        return sum(self.num_scheduled_tokens.values())


def key_of(request_id: str) -> TicketKey:
    return TicketKey(f"ticket of {request_id}", 1)


def leg(request_id: str, kind: str, tokens: int) -> Request:
    """A request that belongs to a ticket."""
    return Request(request_id, tokens, transfer_params(key_of(request_id), kind, PEER))


class Engine:
    """Speaks to the scheduler's half as vLLM does."""

    def __init__(self, stream: str = "layer") -> None:
        self.pool = Pool()
        self.side = SchedulingSide(BLOCK, stream)
        self.side.bind_pool(self.pool)

    def arrive(self, request_id: str, kind: str, tokens: int) -> Request:
        request = leg(request_id, kind, tokens)
        self.side.arrived(request)
        return request

    def idle(self) -> Orders:
        """A step without requests."""
        return self.side.orders(Output())

    def start(self, request_id: str, blocks: Sequence[int], tokens: int, hit: int = 0) -> Orders:
        """The first step of a request, `hit` tokens of which were cached."""
        new = New(request_id, (list(blocks),), hit)
        return self.side.orders(Output([new], Cached(), {request_id: tokens}))

    def go_on(
        self, request_id: str, blocks: Sequence[int] | None, before: int, tokens: int
    ) -> Orders:
        """A later step."""
        return self._cached(request_id, blocks, before, tokens, set())

    def resume(self, request_id: str, blocks: Sequence[int], before: int, tokens: int) -> Orders:
        """The first step after a preemption."""
        return self._cached(request_id, blocks, before, tokens, {request_id})

    def _cached(
        self, request_id: str, blocks: Any, before: int, tokens: int, resumed: set[str]
    ) -> Orders:
        ids = (list(blocks),) if blocks is not None else None
        cached = Cached([request_id], resumed, [ids], [before])
        return self.side.orders(Output([], cached, {request_id: tokens}))
