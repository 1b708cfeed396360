"""One router as its supervisor knows it."""

from __future__ import annotations

from dataclasses import dataclass

from baton.ids import RouterId
from baton.messages import WorkerState
from cluster.ports import Handle, RouterRow

_SERVING = (WorkerState.READY, WorkerState.DRAINING)


@dataclass(slots=True, eq=False)
class Front:
    """One place for a router. Its successor, when it is to be replaced, is another one."""

    router_id: RouterId
    incarnation: int = 0
    state: WorkerState = WorkerState.GONE
    url: str | None = None
    metrics_address: str = ""
    detail: str = ""
    handle: Handle | None = None
    failures: int = 0
    since: float = 0.0
    heard_at: float = 0.0
    retry_at: float = 0.0
    told_version: int = -1
    told_rows: tuple[RouterRow, ...] = ()
    told_at: float = 0.0
    before: Front | None = None
    """Whom it succeeds."""
    replaced: bool = False
    """Whether its successor takes the connections."""
    outdated: bool = False
    """Whether it runs with other settings, or for workers of another version."""

    @property
    def key(self) -> str:
        """Tells it from its successor."""
        return f"{self.router_id} {id(self)}"

    @property
    def serves(self) -> bool:
        """Whether it may have clients."""
        return self.handle is not None and self.state in _SERVING

    def is_to_hear(self, version: int, rows: tuple[RouterRow, ...], since: float) -> bool:
        """Whether there is news for it, or it was told last before `since`."""
        known = (self.told_version, self.told_rows) == (version, rows)
        return not known or self.told_at <= since

    def row(self) -> RouterRow:
        """As the cluster's table shows it."""
        pid = None if self.handle is None else self.handle.pid
        restarts = max(0, self.incarnation - 1)
        return RouterRow(
            self.router_id,
            self.state,
            self.url,
            self.detail,
            restarts,
            pid,
            self.replaced,
            self.metrics_address,
        )
