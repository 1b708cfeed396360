"""What operators see of one router, in what JSON can hold."""

from __future__ import annotations

from typing import Any

from baton.ids import RequestId, RouterId
from router.door import Door
from router.gate import Gate
from router.ledger import Ledger
from router.life import FlowState
from router.peer import Peer
from router.planning import Planner
from router.registry import Registry
from router.split import Split
from router.transfers import transfer_row


class Window:
    """Reads the router's parts, changes none."""

    def __init__(
        self,
        router_id: RouterId,
        door: Door,
        registry: Registry,
        ledger: Ledger,
        planner: Planner,
        gate: Gate,
    ) -> None:
        self._router_id = router_id
        self._door = door
        self._registry = registry
        self._ledger = ledger
        self._planner = planner
        self._gate = gate

    def latest(self, most: int) -> list[FlowState]:
        """See `Ledger.latest`."""
        return self._ledger.latest(most)

    def recent(self) -> list[dict[str, Any]]:
        """See `Keeping.recent`."""
        return self._ledger.recent()

    def find(self, text: str) -> FlowState | None:
        """See `Ledger.find`."""
        return self._ledger.find(text)

    def split(self, request_id: RequestId) -> Split | None:
        """See `Ledger.split`."""
        return self._ledger.split(request_id)

    def status(self, now: float, viewed_at: float) -> dict[str, Any]:
        """The router now. Ages in seconds; `viewed_at`: when the cluster's view was renewed."""
        return {
            "router_id": self._router_id,
            "draining": self._door.closed,
            "view_version": self._registry.version,
            "view_age_s": now - viewed_at,
            "inflight_requests": len(self._ledger),
            "ended": dict(self._ledger.ended),
            "refused": dict(self._door.refused),
            "refused_workers": dict(self._registry.refused),
            "workers": [_row(peer, now) for peer in self._registry.peers()],
            "tenants": self._gate.rows(),
            "routing": self._planner.figures(now),
        }


def _row(peer: Peer, now: float) -> dict[str, Any]:
    report = peer.transfer
    return {**peer.row(now), "transfer": None if report is None else transfer_row(report)}
