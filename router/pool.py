"""What one router knows of its workers, in the form that policies take.

Slots, caches and costs by worker, the rings over the prefill workers, and the state of the pool at
a moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from baton.ids import WorkerId
from baton.messages import Role
from baton.wire import worker_pb2 as pb
from router.caches import Caches
from router.outlook import Outlook
from router.peer import Peer
from router.policy import rings
from router.policy.index import Levels
from router.policy.prefill import State
from router.policy.rings import Rings
from router.policy.types import PolicyRules
from router.registry import Registry
from router.slots import Slots

_Slotted = list[tuple[int, Peer]]


class Pool:
    """Reads loads from the registry; owns the rest."""

    def __init__(self, registry: Registry, rules: PolicyRules, view_max_age_s: float) -> None:
        self._registry = registry
        self._rules = rules
        self._view_max_age_s = view_max_age_s
        self.slots = Slots()
        self.caches = Caches()
        self.outlook = Outlook()
        self._ringed: tuple[WorkerId | None, ...] = ()
        self._state = State((), 0, fresh=False)
        self._prefillers: _Slotted = []
        self._decoders: _Slotted = []
        self._without: WorkerId | None = None

    # --- membership -------------------------------------------------------------------------------

    def follow(self, peers: Iterable[Peer], gone: Iterable[Peer]) -> Rings | None:
        """The cluster has changed; the new rings if the prefill pool is another one."""
        now = {peer.info.worker_id: peer for peer in peers}
        for peer in gone:
            self.lost(peer)
            if peer.info.worker_id not in now:
                self._free(peer.info.worker_id)
        for worker_id in now:
            self.slots.take(worker_id)
        self.outlook.size(len(self.slots))
        slotted = [(self.slots.take(name), peer) for name, peer in now.items()]
        self._decoders = [one for one in slotted if one[1].info.role is Role.DECODE]
        self._prefillers = [one for one in slotted if one[1].info.role is Role.PREFILL]
        return self._new_rings()

    def lost(self, peer: Peer) -> int | None:
        """The link is gone: what the worker holds is unknown until it is back. Its slot."""
        slot = self.slots.get(peer.info.worker_id)
        if slot is not None:
            self.caches.forget(slot)
        return slot

    def _free(self, worker_id: WorkerId) -> None:
        slot = self.slots.free(worker_id)
        if slot is not None:
            self.outlook.forget(slot)

    def _new_rings(self) -> Rings | None:
        wanted: list[WorkerId | None] = [None] * len(self.slots)
        for slot, peer in self._prefillers:
            if not peer.draining:
                wanted[slot] = peer.info.worker_id
        if tuple(wanted) == self._ringed:
            return None
        self._ringed = tuple(wanted)
        return rings.at_slots(wanted)

    # --- news -------------------------------------------------------------------------------------

    def heard(self, peer: Peer, frame: pb.StepFrame, now: float) -> bool:
        """Takes over what a frame says of cache and costs; True when a resync is needed."""
        slot = self.slots.get(peer.info.worker_id)
        if slot is None:
            return False
        if frame.HasField("costs"):
            self.outlook.heard(slot, frame.costs, now)
        return frame.HasField("cache") and self.caches.heard(slot, frame.cache, now)

    @contextmanager
    def without(self, worker_id: WorkerId) -> Iterator[None]:
        """Within it, this worker takes no requests."""
        self._without = worker_id
        try:
            yield
        finally:
            self._without = None

    # --- the pool now -----------------------------------------------------------------------------

    @property
    def fresh(self) -> bool:
        """Whether the caches were known at the last `state`."""
        return self._state.fresh

    def state(self, now: float) -> State:
        """The prefill workers now; `match` answers for the same moment."""
        self.outlook.at(now, (slot for slot, _ in self._prefillers))
        queue_s, mask, oldest = [0.0] * len(self.slots), 0, now
        for slot, peer in self._best(self._prefillers, self._rules.max_queued_prefill_requests):
            queue_s[slot] = peer.queue_s(now)
            mask |= 1 << slot
            oldest = min(oldest, peer.heard_at or 0.0, self.caches.known_at(slot))
        # A clock that jumps back makes everything fresh for as long as workers take to report.
        fresh = now - oldest <= self._view_max_age_s
        self._state = State(queue_s, mask, fresh)
        return self._state

    def match(self, blocks: Sequence[int]) -> Levels:
        """What the workers of the last `state` hold of a prompt."""
        return self.caches.match(blocks, self._state.open_mask, fresh=self._state.fresh)

    def decoders(self) -> list[Peer]:
        """The decode workers that take requests."""
        most = self._rules.max_queued_decode_requests
        return [peer for _, peer in self._best(self._decoders, most)]

    def prefillers(self) -> list[Peer]:
        """The prefill workers that take requests."""
        most = self._rules.max_queued_prefill_requests
        return [peer for _, peer in self._best(self._prefillers, most)]

    def has_prefill(self) -> bool:
        """Whether there is a prefill worker that takes requests, full or not."""
        return any(p.open and p.info.worker_id != self._without for _, p in self._prefillers)

    def _best(self, peers: _Slotted, queued_most: int) -> _Slotted:
        """Those that are to get requests, else those that at least would take them."""
        would = [
            (slot, peer)
            for slot, peer in peers
            if peer.has_room(queued_most) and peer.info.worker_id != self._without
        ]
        return [one for one in would if not one[1].shunned] or would

    def peer(self, slot: int) -> Peer | None:
        """Who has this number; None if it is not linked."""
        return self._registry.get(self.slots.worker(slot))

    def names(self, slots: Iterable[int]) -> tuple[WorkerId, ...]:
        """Whose numbers these are."""
        workers = (self.slots.worker(slot) for slot in slots)
        return tuple(worker for worker in workers if worker is not None)

    def rows(self, now: float) -> dict[str, dict[str, Any]]:
        """What is known of each worker, in what JSON can hold."""
        return {p.info.worker_id: self._row(p, now) for p in self._registry.peers()}

    def _row(self, peer: Peer, now: float) -> dict[str, Any]:
        slot = self.slots.take(peer.info.worker_id)
        age_s = self.caches.age_s(slot, now)
        return {
            "queue_s": round(peer.queue_s(now), 4),
            "cached_blocks": self.caches.blocks(slot),
            "cache_age_s": round(age_s, 3) if age_s < float("inf") else None,
            "prediction_error": {k: round(e, 3) for k, e in self.outlook.errors(slot).items()},
        }
