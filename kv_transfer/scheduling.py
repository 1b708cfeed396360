"""The scheduler's half of Baton's connector: which blocks belong to which ticket, step by step.

Knows vLLM's scheduler only by what it is handed, and turns it into orders for the mover. Holds its
own reference on every source block from the step that computes it until the ticket is released.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from kv_transfer.orders import (
    Abort,
    Allocate,
    Begin,
    Cover,
    Decline,
    Finish,
    OpenSource,
    OpenTarget,
    Orders,
    Preempt,
)
from kv_transfer.ticket.messages import TicketKey

_log = logging.getLogger("baton.kv_transfer")

PREFILL, DECODE = "prefill", "decode"


class Pool(Protocol):
    """vLLM's block pool, as far as references go."""

    blocks: list[Any]

    def touch(self, blocks: Any) -> None: ...

    def free_blocks(self, ordered_blocks: Any) -> None: ...


@dataclass(slots=True)
class _Leg:
    key: TicketKey
    kind: str
    prompt_tokens: int
    """With the outputs that it is resumed with: all whose KV is handed over."""
    by_layer: bool = True
    begun: bool = False
    admitted: bool = False
    """Prefill has begun, or nothing will come: decode may spend blocks on it."""
    blocks: list[int] = field(default_factory=list)
    source_epoch: int = 0
    pinned: dict[int, None] = field(default_factory=dict)
    """One reference each, in the order in which they were taken."""
    held: bool = False
    """The engine keeps a finished prefill's blocks until it is reported as sent."""
    registered: bool = False
    settled: bool = False
    """Decode needs nothing more from the ticket."""
    failed: bool = False
    """On one rank; the others are told to let go."""
    gone: bool = False
    """The engine has ended the request, but not yet got the blocks back."""


def transfer_params(key: TicketKey, kind: str, peer: bytes) -> dict[str, Any]:
    """What a leg's request carries in `kv_transfer_params`."""
    return {
        "baton": kind,
        "ticket": key.ticket_id,
        "epoch": key.epoch,
        "peer": base64.b64encode(peer).decode(),
    }


class SchedulingSide:
    """Belongs to the engine's scheduler thread."""

    def __init__(self, block_tokens: int, stream: str = "layer") -> None:
        self._block_tokens = block_tokens
        self._stream = stream
        self._legs: dict[str, _Leg] = {}
        self._orders = Orders()
        self._pool: Pool | None = None

    def bind_pool(self, pool: Pool) -> None:
        self._pool = pool

    # -- admission

    def arrived(self, request: Any) -> None:
        """A request was added to the scheduler."""
        params = request.kv_transfer_params
        if not params or params.get("baton") not in (PREFILL, DECODE):
            return
        key = TicketKey(params["ticket"], params["epoch"])
        by_layer = params.get("stream", self._stream) == "layer"
        leg = _Leg(key, params["baton"], request.num_tokens, by_layer)
        self._legs[request.request_id] = leg
        opened = OpenSource if leg.kind == PREFILL else OpenTarget
        peer = base64.b64decode(params["peer"])
        self._orders.at_once.append(opened(key, request.request_id, peer))

    def matched_tokens(self, request: Any, computed_tokens: int) -> tuple[int | None, bool]:
        """(tokens whose KV will come from prefill, whether it comes later). None = ask again:
        blocks reserved before prefill has begun would only wait in its queue."""
        leg = self._legs.get(request.request_id)
        if leg is None or leg.kind != DECODE or leg.settled or leg.registered:
            return 0, False
        count = leg.prompt_tokens - computed_tokens
        if count <= 0:
            return 0, False
        return (count, True) if leg.admitted else (None, False)

    def allocated(self, request: Any, block_ids: list[int], external_tokens: int) -> None:
        """The scheduler gave the request blocks. Called again once its KV has landed."""
        leg = self._legs.get(request.request_id)
        if leg is None or leg.kind != DECODE or leg.registered or leg.settled:
            return
        if external_tokens == 0:
            leg.settled = True
            self._orders.at_once.append(Decline(leg.key))
            return
        leg.registered = True
        first = (leg.prompt_tokens - external_tokens) // self._block_tokens
        total = self._positions(leg.prompt_tokens)
        blocks = tuple(block_ids[first:total])
        self._orders.at_once.append(Allocate(leg.key, first, blocks, total))

    # -- steps

    def orders(self, scheduler_output: Any) -> Orders:
        """The orders of the step that was just scheduled."""
        for new in scheduler_output.scheduled_new_reqs:
            if (leg := self._prefill(new.req_id)) is not None:
                if leg.blocks:
                    self._preempted(leg)  # Some of vLLM's runners call a resumed request new.
                leg.blocks = list(new.block_ids[0])
                self._cover(leg, new.req_id, new.num_computed_tokens, scheduler_output)
        self._cached(scheduler_output.scheduled_cached_reqs, scheduler_output)
        taken, self._orders = self._orders, Orders()
        taken.idle = scheduler_output.total_num_scheduled_tokens == 0
        return taken

    def _cached(self, cached: Any, scheduler_output: Any) -> None:
        for i, request_id in enumerate(cached.req_ids):
            leg = self._prefill(request_id)
            if leg is None:
                continue
            new = cached.new_block_ids[i]
            if request_id in cached.resumed_req_ids:
                self._preempted(leg)
                leg.blocks = list(new[0]) if new else []
            elif new:
                leg.blocks += new[0]
            self._cover(leg, request_id, cached.num_computed_tokens[i], scheduler_output)

    def _prefill(self, request_id: str) -> _Leg | None:
        leg = self._legs.get(request_id)
        return leg if leg is not None and leg.kind == PREFILL else None

    def _preempted(self, leg: _Leg) -> None:
        leg.source_epoch += 1
        self._orders.at_once.append(Preempt(leg.key))

    def _cover(self, leg: _Leg, request_id: str, before: int, scheduler_output: Any) -> None:
        tokens = before + scheduler_output.num_scheduled_tokens[request_id]
        if tokens >= leg.prompt_tokens:
            computed = self._positions(leg.prompt_tokens)
        else:
            computed = tokens // self._block_tokens
        blocks = tuple(leg.blocks[:computed])
        self._pin(leg, blocks)
        if not leg.begun:
            leg.begun = True
            self._orders.at_once.append(Begin(leg.key))
        cover = Cover(leg.key, leg.source_epoch, blocks, computed, leg.by_layer)
        self._orders.computed.append(cover)

    def _positions(self, tokens: int) -> int:
        return -(-tokens // self._block_tokens)

    # -- the end

    def finished(self, request: Any, *, well: bool) -> bool:
        """The request has ended; returns whether the engine has to keep its blocks."""
        leg = self._legs.get(request.request_id)
        if leg is None:
            return False
        if leg.kind == DECODE:
            self._end_decode(leg, request.request_id)
            return False
        leg.held = bool(leg.blocks)
        aborted = Abort(leg.key, "the prefill leg was aborted", leg.held)
        self._orders.at_once.append(Finish(leg.key) if well and leg.held else aborted)
        if not leg.held:
            del self._legs[request.request_id]
        return leg.held

    def _end_decode(self, leg: _Leg, request_id: str) -> None:
        if not leg.settled:
            self._orders.at_once.append(Abort(leg.key, "the decode leg was aborted"))
        leg.gone = True
        if not leg.registered or leg.settled:
            del self._legs[request_id]

    def admitted(self, request_id: str) -> None:
        """A decode leg may be given blocks."""
        if (leg := self._legs.get(request_id)) is not None:
            leg.admitted = True

    def failed(self, request_id: str) -> None:
        """The load of a decode leg has failed on one rank. It ends once every rank has proof that
        its blocks are safe, and those that are still loading get theirs by asking for it."""
        leg = self._legs.get(request_id)
        if leg is None or leg.settled or leg.failed or leg.gone:
            return
        leg.failed = True
        self._orders.at_once.append(Abort(leg.key, "the load failed on another rank"))

    def sent(self, request_id: str) -> None:
        """The ticket of a prefill leg is released, on all ranks."""
        leg = self._legs.pop(request_id, None)
        if leg is not None:
            self._unpin(leg)

    def received(self, request_id: str) -> None:
        """The load of a decode leg has ended on all ranks, well or not."""
        leg = self._legs.get(request_id)
        if leg is not None:
            leg.settled = True
            if leg.gone:
                del self._legs[request_id]

    # -- references

    def _pin(self, leg: _Leg, blocks: tuple[int, ...]) -> None:
        new = [block for block in blocks if block not in leg.pinned]
        if self._pool is not None and new:
            self._pool.touch([self._pool.blocks[i] for i in new])
            leg.pinned |= dict.fromkeys(new)

    def _unpin(self, leg: _Leg) -> None:
        if self._pool is not None and leg.pinned:
            self._pool.free_blocks([self._pool.blocks[i] for i in reversed(leg.pinned)])
            leg.pinned = {}

    @property
    def open_legs(self) -> Mapping[str, str]:
        """Request id → kind, of legs whose ticket is not over."""
        return {request_id: leg.kind for request_id, leg in self._legs.items()}
