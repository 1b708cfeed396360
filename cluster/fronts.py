"""The routers: keeps them running and tells each of them who is in the cluster.

A router is replaced without a gap. Its successor starts beside it and takes over the open port
itself, with the connections that wait in it; then the old one withdraws, serves whoever is still
connected for a bounded time, and ends.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from baton.errors import BatonError, Reason, StartupError
from baton.ids import RouterId
from baton.messages import ClusterView, WorkerState
from baton.signals import RouterSignals
from cluster.front import Front
from cluster.jobs import Failure, Jobs, end_gently, failure_of, is_late, wait_drained
from cluster.plan import Plan, Time
from cluster.ports import (
    ActorFactory,
    AdoptedRouter,
    Handle,
    RouterProgress,
    RouterRow,
    ScalingRow,
)
from cluster.supervision import backoff_s, heals

_log = logging.getLogger(__name__)
_LOOK_EVERY_S = 0.2
"""Short, so that a changed view does not wait for a whole health interval."""


class Fronts:
    """Owns the handles of all routers. None holds state: a new one simply replaces another."""

    def __init__(self, factory: ActorFactory, plan: Plan, time: Time) -> None:
        self._factory = factory
        self._plan = plan
        self._time = time
        self._jobs: Jobs[Failure | None] = Jobs("fronts")
        self._ids = tuple(RouterId(f"router-{n}") for n in range(plan.routers))
        self._fronts = [Front(router_id) for router_id in self._ids]
        self._was_complete = False
        self._scaling: ScalingRow | None = None
        self.held = False  # Whether routers of another version stay: nobody else can serve.

    @property
    def rows(self) -> tuple[RouterRow, ...]:
        """All routers, in order; a successor is shown once it has taken over."""
        shown = (f for f in self._fronts if f.before is None or f.before.replaced)
        return tuple(f.row() for f in sorted(shown, key=lambda f: self._ids.index(f.router_id)))

    @property
    def complete(self) -> bool:
        """Whether all routers are ready."""
        ready = {f.router_id for f in self._fronts if f.state is WorkerState.READY}
        return ready.issuperset(self._ids)

    @property
    def url(self) -> str | None:
        """Where clients reach the first ready router."""
        return next((row.url for row in self.rows if row.url is not None), None)

    def handle(self, router_id: RouterId) -> Handle | None:
        """The process behind a router, None while there is none."""
        front = self._current(router_id)
        return None if front is None else front.handle

    def told(self, version: int) -> bool:
        """Whether every router that serves anybody has heard of this version of the table."""
        return all(f.told_version >= version for f in self._fronts if f.serves)

    def awaits_successors(self) -> bool:
        """Whether routers of another version serve."""
        return any(f.outdated and f.serves and not f.replaced for f in self._fronts)

    @property
    def tasks(self) -> tuple[asyncio.Task[Failure | None], ...]:
        """The jobs in flight."""
        return self._jobs.tasks

    def ask_to_replace(self, router_id: RouterId) -> int:
        """Has a router followed by a fresh start of it; its incarnation until then.

        Raises BatonError if it is not there to be replaced. May be called again.
        """
        front = self._current(router_id)
        if front is None:
            raise BatonError(Reason.NO_WORKER, f"there is no router {router_id}")
        if front.state is not WorkerState.READY:
            raise BatonError(Reason.DRAINING, f"{router_id} is {front.state.value}, not ready")
        self._succeed(front)
        return front.incarnation

    async def adopt(self, found: Sequence[AdoptedRouter]) -> int:
        """Takes over the routers that an earlier controller left; the newest version of the
        members that any of them was told."""
        # A successor that was under way comes after whom it succeeds.
        by_age = sorted(found, key=lambda one: one.incarnation)
        self._was_complete = self._was_complete or bool(found)
        return max([await self._adopt(one) for one in by_age], default=0)

    async def signals(self) -> tuple[RouterSignals, ...]:
        """What the serving routers measured; nothing unless all of them say it."""
        serving = [f.handle for f in self._fronts if f.serves and not f.replaced]
        call_s = self._plan.call_timeout_s
        try:
            said = await asyncio.gather(
                *(handle.call("signals", timeout_s=call_s) for handle in serving if handle)
            )
        except (BatonError, StartupError) as error:
            _log.info("a router did not say what it measured: %s", error.message)
            return ()
        return () if None in said else tuple(said)

    async def step(self, view: ClusterView, scaling: ScalingRow | None = None) -> None:
        """One turn: starts what is due, and takes in what the jobs found out.

        Raises StartupError or BatonError when the first start of the cluster has to be given up.
        """
        self._scaling = scaling
        for front in self._fronts:
            self._next_job(front, view)
        for key, failure in self._jobs.collect():
            if failure is not None:
                await self._died(self._by_key(key), failure)
        self._forget_the_replaced()
        self._was_complete = self._was_complete or self.complete

    async def drain(self, drain_s: float) -> bool:
        """Closes the doors and waits for running requests; False if `drain_s` was not enough."""
        await self._jobs.aclose()
        drained = await asyncio.gather(*(self._drain(front, drain_s) for front in self._fronts))
        return all(drained)

    async def stop(self) -> None:
        """Stops every router, drained or not."""
        await self._jobs.aclose()
        await asyncio.gather(*(self._stop(front) for front in self._fronts))

    async def kill(self) -> None:
        """Ends every router at once."""
        await self._jobs.aclose()
        await asyncio.gather(*(self._kill(front) for front in self._fronts))

    async def _adopt(self, one: AdoptedRouter) -> int:
        front = self._current(one.router_id)
        if front is None:
            _log.info("%s is ended: nobody wants it any more", one.router_id)
            await one.handle.kill()
            return 0
        if front.handle is not None:
            front = Front(one.router_id, before=front)
            self._fronts.append(front)
        front.handle, front.incarnation = one.handle, one.incarnation
        self._enter(front, WorkerState.STARTING, "adopted")
        try:
            progress = await one.handle.call("progress", timeout_s=self._plan.call_timeout_s)
            failure = await self._news(front, progress)
            if front.state is WorkerState.STARTING:
                # Whoever placed it may have ended before it could tell it to start.
                door = await self._door_of(front.before)
                await front.handle.call("start", door, timeout_s=self._plan.call_timeout_s)
        except (BatonError, StartupError) as error:
            failure = error
        if failure is not None:
            await self._died(front, failure)
            return 0
        front.heard_at = self._time.now()
        return int(progress.view_version)

    def _current(self, router_id: RouterId) -> Front | None:
        own = (f for f in self._fronts if f.router_id == router_id and not f.replaced)
        return next(own, None)

    def _by_key(self, key: str) -> Front:
        return next(front for front in self._fronts if front.key == key)

    def _forget_the_replaced(self) -> None:
        self._fronts = [f for f in self._fronts if not (f.replaced and f.handle is None)]
        for front in self._fronts:
            if front.before not in self._fronts:
                front.before = None

    def _succeed(self, front: Front) -> None:
        """Starts whoever is to follow it, if nobody is under way."""
        if not any(f.before is front for f in self._fronts):
            front.detail = "its successor starts"
            self._fronts.append(Front(front.router_id, front.incarnation, before=front))

    def _next_job(self, front: Front, view: ClusterView) -> None:
        now = self._time.now()
        if self._jobs.busy(front.key):
            return
        if front.handle is None:
            if now >= front.retry_at:
                self._jobs.start(front.key, "place", self._place(front))
        elif front.is_to_hear(view.version, self.rows, now - self._plan.view_repeat_s):
            self._jobs.start(front.key, "tell", self._tell(front, view))
        elif front.replaced:
            self._jobs.start(front.key, "see off", self._see_off(front))
        else:
            self._jobs.start(front.key, "poll", self._poll(front))

    async def _place(self, front: Front) -> Failure | None:
        front.incarnation += 1
        self._enter(front, WorkerState.STARTING, "starting its process")
        try:
            front.handle = await self._factory.router(front.router_id, front.incarnation)
            door = await self._door_of(front.before)
            await front.handle.call("start", door, timeout_s=self._plan.call_timeout_s)
        except (BatonError, StartupError) as error:
            return error
        front.detail = "starting"
        front.told_version = -1
        front.heard_at = self._time.now()
        return None

    async def _door_of(self, before: Front | None) -> str:
        if before is None or before.handle is None:
            return ""
        try:
            door = await before.handle.call("offer", timeout_s=self._plan.call_timeout_s)
        except (BatonError, StartupError) as error:
            _log.info("%s did not hand over its port: %s", before.router_id, error.message)
            return ""
        return str(door)

    async def _tell(self, front: Front, view: ClusterView) -> Failure | None:
        assert front.handle is not None
        rows, call_s = self.rows, self._plan.call_timeout_s
        try:
            await front.handle.call("set_view", view, rows, self._scaling, timeout_s=call_s)
        except (BatonError, StartupError) as error:
            return self._unheard(front, error)
        front.told_version, front.told_rows = view.version, rows
        front.told_at = front.heard_at = self._time.now()
        return None

    async def _poll(self, front: Front) -> Failure | None:
        assert front.handle is not None
        try:
            progress = await front.handle.call("progress", timeout_s=self._plan.call_timeout_s)
        except (BatonError, StartupError) as error:
            return self._unheard(front, error)
        front.heard_at = self._time.now()
        failure = await self._news(front, progress)
        if failure is None:
            await self._time.pause(min(_LOOK_EVERY_S, self._plan.health_interval_s))
        return failure

    async def _news(self, front: Front, progress: RouterProgress) -> Failure | None:
        if progress.error is not None or not progress.alive:
            return failure_of(progress.error)
        front.outdated = progress.digest != self._plan.router_digest
        due = progress.leaving or (front.outdated and not self.held)
        if due and front.state is WorkerState.READY:
            self._succeed(front)
        overdue = self._time.now() - front.since > self._plan.limits.start_timeout_s
        if progress.ready_url is not None and front.state is WorkerState.STARTING:
            front.url, front.metrics_address = progress.ready_url, progress.metrics_address
            self._enter(front, WorkerState.READY, "")
            await self._replace(front.before)
        elif front.state is WorkerState.STARTING and overdue:
            return BatonError(Reason.DEADLINE_EXCEEDED, "it was not ready in time")
        return None

    async def _replace(self, before: Front | None) -> None:
        """Its successor takes connections: it need not any more."""
        if before is None:
            return
        before.replaced, before.url = True, None
        self._enter(before, WorkerState.DRAINING, "")
        if before.handle is None:
            return
        try:
            await before.handle.call("withdraw", timeout_s=self._plan.call_timeout_s)
        except (BatonError, StartupError) as error:
            # Whoever sees it off finds out what ails it.
            _log.info("%s did not withdraw: %s", before.router_id, error.message)

    async def _see_off(self, front: Front) -> Failure | None:
        assert front.handle is not None
        try:
            clients = await front.handle.call("clients", timeout_s=self._plan.call_timeout_s)
        except (BatonError, StartupError) as error:
            return error
        late = self._time.now() >= front.since + self._plan.drain_timeout_s
        if clients and not late:
            front.detail = f"{clients} clients left"
            await self._time.pause(min(_LOOK_EVERY_S, self._plan.health_interval_s))
        else:
            await self._stop(front)
        return None

    def _unheard(self, front: Front, error: Failure) -> Failure | None:
        silent_s = self._time.now() - front.heard_at
        starting = front.state is WorkerState.STARTING
        bound_s = self._plan.limits.start_timeout_s if starting else self._plan.silence_s
        patient = is_late(error) and silent_s < bound_s
        return None if patient else error

    async def _died(self, front: Front, error: Failure) -> None:
        _log.warning("%s (start %d) died: %s", front.router_id, front.incarnation, error.message)
        steady = front.state is WorkerState.READY
        steady = steady and self._time.now() - front.since >= self._plan.limits.steady_s
        front.failures = 1 if steady else front.failures + 1
        await self._kill(front)
        front.detail = error.message
        front.retry_at = self._time.now() + backoff_s(front.failures, self._plan.limits)
        # Whoever was to follow it is under way already.
        front.replaced = front.replaced or any(f.before is front for f in self._fronts)
        if not self._was_complete:
            self._give_up_if_hopeless(front, error)

    def _give_up_if_hopeless(self, front: Front, error: Failure) -> None:
        if isinstance(error, StartupError) and not heals(error):
            raise error
        if front.failures >= self._plan.limits.first_start_failures_max:
            raise error

    async def _drain(self, front: Front, drain_s: float) -> bool:
        if front.handle is None or not front.serves:
            return True
        self._enter(front, WorkerState.DRAINING, "draining")
        try:
            return await wait_drained(front.handle, self._plan, self._time, drain_s)
        except BatonError as error:
            _log.info("%s did not drain: %s", front.router_id, error.message)
            return False

    async def _stop(self, front: Front) -> None:
        if front.handle is not None:
            await end_gently(front.handle, self._plan, self._time, 0.0)
        self._gone(front)

    async def _kill(self, front: Front) -> None:
        if front.handle is not None:
            await front.handle.kill()
        self._gone(front)

    def _gone(self, front: Front) -> None:
        front.handle, front.url, front.metrics_address = None, None, ""
        self._enter(front, WorkerState.GONE, "stopped")

    def _enter(self, front: Front, state: WorkerState, detail: str) -> None:
        front.state, front.detail, front.since = state, detail, self._time.now()
