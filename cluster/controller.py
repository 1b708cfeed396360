"""The loop that keeps the cluster as it should be.

A plain class without Ray: `baton serve` runs it in its own process, which is the simplest thing
that cannot orphan a cluster, because a Ray of our own dies with that process anyway. On a joined
Ray the workers are detached actors, so a controller that starts again adopts them. Nothing here
minds being an actor itself.

Order of stopping: routers close their doors and drain, workers drain and stop, routers stop, what
is left is killed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from baton.ids import RouterId, WorkerId
from baton.messages import ClusterView
from cluster.crew import Crew
from cluster.fronts import Fronts
from cluster.jobs import first_end
from cluster.membership import view
from cluster.plan import Plan, Time, real_time
from cluster.ports import ActorFactory, Adopted, AdoptedRouter, RouterRow, ScalingRow
from cluster.scaler import Keeper, Scaler
from cluster.upgrading import serves_by_the_old

_log = logging.getLogger(__name__)
_WORKER_DRAIN_MIN_S = 2.0
# An order to stop, or a back-off that has passed, is noticed within this time.
_TURN_S = 0.25


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """Everything there is to show."""

    phase: str
    """starting, serving, degraded, draining, stopping or stopped."""
    view: ClusterView
    routers: tuple[RouterRow, ...]
    url: str | None
    scaling: ScalingRow | None = None


OnChange = Callable[[ClusterStatus], None]


class Controller:
    """Runs the cluster from `run` until `ask_to_stop`; `kill` ends it the hard way.

    `on_change` is called in the event loop whenever the status differs from the last one.
    """

    def __init__(
        self,
        factory: ActorFactory,
        plan: Plan,
        on_change: OnChange,
        time: Time | None = None,
        keeper: Keeper | None = None,
    ) -> None:
        self._factory = factory
        self._plan = plan
        self._time = real_time() if time is None else time
        self._on_change = on_change
        self._shown: ClusterStatus | None = None
        self._stop_asked = False
        self._was_serving = False
        self.crew = Crew(factory, plan, self._time)
        self.fronts = Fronts(factory, plan, self._time)
        self.crew.told = self.fronts.told
        self.crew.awaited = self.fronts.awaits_successors
        self.scaler = Scaler(self.crew, self.fronts, plan, self._time, keeper)

    async def run(self) -> None:
        """Starts the cluster, keeps it, and stops it when asked; then no process is left.

        Raises BatonError or StartupError if the first start has to be given up; the caller then
        owes a `kill`.
        """
        await self._adopt()
        while not self._stop_asked:
            await self.step()
            await self.wait(_TURN_S)
        await self._stop()

    def ask_to_stop(self) -> None:
        """Lets `run` drain and end. May be called again."""
        self._stop_asked = True

    def ask_to_drain(self, name: str) -> int:
        """Has a worker or router finish what it has, and be started anew; its incarnation so far.

        Raises BatonError if it is not there to be drained. May be called again.
        """
        if any(row.router_id == name for row in self.fronts.rows):
            return self.fronts.ask_to_replace(RouterId(name))
        return self.crew.ask_to_drain(WorkerId(name))

    async def kill(self) -> None:
        """Ends every process at once. `run` must have ended or been cancelled."""
        await self.scaler.aclose()
        await asyncio.gather(self.fronts.kill(), self.crew.kill())

    async def step(self) -> None:
        """One turn of the loop; waits for nothing but the end of what it has to replace."""
        await self.crew.step()
        await self.scaler.step()
        self.fronts.held = serves_by_the_old(self.crew.table, self.crew.wanted, self._plan.digest)
        await self.fronts.step(view(self.crew.table), self.scaler.row)
        self._show(self._phase())

    async def wait(self, wait_s: float) -> None:
        """Until something happened, at most `wait_s`."""
        tasks = (*self.crew.tasks, *self.fronts.tasks, *self.scaler.tasks)
        await first_end(tasks, wait_s, self._time)

    async def _adopt(self) -> None:
        """Takes over what an earlier controller left. Nobody who serves may notice."""
        found = await self._factory.adopt()
        version = await self.fronts.adopt([a for a in found if isinstance(a, AdoptedRouter)])
        # Routers know the workers already: a view that knows less would end their requests.
        workers = [a for a in found if isinstance(a, Adopted)]
        if found:
            # Whoever was taken over has served: what lacks is to be made good, not begun.
            self._was_serving = True
            await self.scaler.restore()
        await self.crew.adopt(workers, version)

    async def _stop(self) -> None:
        started = self._time.now()
        await self.scaler.aclose()
        self._show("draining")
        if not await self.fronts.drain(self._plan.drain_timeout_s):
            _log.warning("requests still ran after %s s", self._plan.drain_timeout_s)
        left_s = self._plan.drain_timeout_s - (self._time.now() - started)
        self._show("stopping")
        await self.crew.dismiss(max(_WORKER_DRAIN_MIN_S, left_s))
        await self.fronts.stop()
        await self.kill()
        self._show("stopped")

    def _phase(self) -> str:
        complete = self.crew.complete and self.fronts.complete
        self._was_serving = self._was_serving or complete
        if complete:
            return "serving"
        return "degraded" if self._was_serving else "starting"

    def _show(self, phase: str) -> None:
        status = ClusterStatus(
            phase, view(self.crew.table), self.fronts.rows, self.fronts.url, self.scaler.row
        )
        if status != self._shown:
            self._shown = status
            self._on_change(status)
