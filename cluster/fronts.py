"""The routers: keeps them running and tells each of them who is in the cluster."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from baton.errors import BatonError, Reason, StartupError
from baton.ids import RouterId
from baton.messages import ClusterView, WorkerState
from cluster.jobs import Failure, Jobs, end_gently, is_late, wait_drained
from cluster.plan import Plan, Time
from cluster.ports import ActorFactory, Handle, RouterProgress
from cluster.supervision import backoff_s, heals

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RouterRow:
    """One router as the cluster's table shows it."""

    router_id: RouterId
    state: WorkerState
    url: str | None
    detail: str
    restarts: int
    pid: int | None


@dataclass(slots=True)
class _Front:
    router_id: RouterId
    incarnation: int = 0
    state: WorkerState = WorkerState.GONE
    url: str | None = None
    detail: str = ""
    handle: Handle | None = None
    failures: int = 0
    since: float = 0.0
    heard_at: float = 0.0
    retry_at: float = 0.0
    told_version: int = -1
    told_at: float = 0.0


class Fronts:
    """Owns the handles of all routers. None holds state: a new one simply replaces a dead one."""

    def __init__(self, factory: ActorFactory, plan: Plan, time: Time) -> None:
        self._factory = factory
        self._plan = plan
        self._time = time
        self._jobs: Jobs[Failure | None] = Jobs("fronts")
        self._fronts = [_Front(RouterId(f"router-{n}")) for n in range(plan.routers)]
        self._was_complete = False

    @property
    def rows(self) -> tuple[RouterRow, ...]:
        """All routers, in order."""
        return tuple(_row(front) for front in self._fronts)

    @property
    def complete(self) -> bool:
        """Whether all routers are ready."""
        return all(front.state is WorkerState.READY for front in self._fronts)

    @property
    def url(self) -> str | None:
        """Where clients reach the first ready router."""
        return next((front.url for front in self._fronts if front.url is not None), None)

    def handle(self, router_id: RouterId) -> Handle | None:
        """The process behind a router, None while there is none."""
        return next((f.handle for f in self._fronts if f.router_id == router_id), None)

    @property
    def tasks(self) -> tuple[asyncio.Task[Failure | None], ...]:
        """The jobs in flight."""
        return self._jobs.tasks

    async def step(self, view: ClusterView) -> None:
        """One turn: starts what is due, and takes in what the jobs found out.

        Raises StartupError or BatonError when the first start of the cluster has to be given up.
        """
        for front in self._fronts:
            self._next_job(front, view)
        for key, failure in self._jobs.collect():
            if failure is not None:
                await self._died(self._by_id(key), failure)
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

    def _by_id(self, router_id: str) -> _Front:
        return next(front for front in self._fronts if front.router_id == router_id)

    def _next_job(self, front: _Front, view: ClusterView) -> None:
        now = self._time.now()
        if self._jobs.busy(front.router_id):
            return
        if front.handle is None:
            if now >= front.retry_at:
                self._jobs.start(front.router_id, "place", self._place(front))
        elif front.told_version != view.version or now >= front.told_at + self._plan.view_repeat_s:
            self._jobs.start(front.router_id, "tell", self._tell(front, view))
        else:
            self._jobs.start(front.router_id, "poll", self._poll(front))

    async def _place(self, front: _Front) -> Failure | None:
        front.incarnation += 1
        self._enter(front, WorkerState.STARTING, "starting its process")
        try:
            front.handle = await self._factory.router(front.router_id, front.incarnation)
            await front.handle.call("start", timeout_s=self._plan.call_timeout_s)
        except (BatonError, StartupError) as error:
            return error
        front.detail = "starting"
        front.told_version = -1
        front.heard_at = self._time.now()
        return None

    async def _tell(self, front: _Front, view: ClusterView) -> Failure | None:
        assert front.handle is not None
        try:
            await front.handle.call("set_view", view, timeout_s=self._plan.call_timeout_s)
        except (BatonError, StartupError) as error:
            return self._unheard(front, error)
        front.told_version = view.version
        front.told_at = front.heard_at = self._time.now()
        return None

    async def _poll(self, front: _Front) -> Failure | None:
        assert front.handle is not None
        try:
            progress = await front.handle.call("progress", timeout_s=self._plan.call_timeout_s)
        except (BatonError, StartupError) as error:
            return self._unheard(front, error)
        front.heard_at = self._time.now()
        failure = self._news(front, progress)
        if failure is None:
            # Short, so that a changed view does not wait for a whole health interval.
            await self._time.pause(min(0.2, self._plan.health_interval_s))
        return failure

    def _news(self, front: _Front, progress: RouterProgress) -> Failure | None:
        if progress.error is not None or not progress.alive:
            return _error(progress)
        overdue = self._time.now() - front.since > self._plan.limits.start_timeout_s
        if progress.ready_url is not None and front.state is WorkerState.STARTING:
            front.url = progress.ready_url
            self._enter(front, WorkerState.READY, "")
        elif front.state is WorkerState.STARTING and overdue:
            return BatonError(Reason.DEADLINE_EXCEEDED, "it was not ready in time")
        return None

    def _unheard(self, front: _Front, error: Failure) -> Failure | None:
        silent_s = self._time.now() - front.heard_at
        starting = front.state is WorkerState.STARTING
        bound_s = self._plan.limits.start_timeout_s if starting else self._plan.silence_s
        patient = is_late(error) and silent_s < bound_s
        return None if patient else error

    async def _died(self, front: _Front, error: Failure) -> None:
        _log.warning("%s (start %d) died: %s", front.router_id, front.incarnation, error.message)
        steady = front.state is WorkerState.READY
        steady = steady and self._time.now() - front.since >= self._plan.limits.steady_s
        front.failures = 1 if steady else front.failures + 1
        await self._kill(front)
        front.detail = error.message
        front.retry_at = self._time.now() + backoff_s(front.failures, self._plan.limits)
        if not self._was_complete:
            self._give_up_if_hopeless(front, error)

    def _give_up_if_hopeless(self, front: _Front, error: Failure) -> None:
        if isinstance(error, StartupError) and not heals(error):
            raise error
        if front.failures >= self._plan.limits.first_start_failures_max:
            raise error

    async def _drain(self, front: _Front, drain_s: float) -> bool:
        if front.handle is None or front.state is not WorkerState.READY:
            return True
        self._enter(front, WorkerState.DRAINING, "draining")
        try:
            return await wait_drained(front.handle, self._plan, self._time, drain_s)
        except BatonError as error:
            _log.info("%s did not drain: %s", front.router_id, error.message)
            return False

    async def _stop(self, front: _Front) -> None:
        if front.handle is not None:
            await end_gently(front.handle, self._plan, self._time, 0.0)
        self._gone(front)

    async def _kill(self, front: _Front) -> None:
        if front.handle is not None:
            await front.handle.kill()
        self._gone(front)

    def _gone(self, front: _Front) -> None:
        front.handle = None
        front.url = None
        self._enter(front, WorkerState.GONE, "stopped")

    def _enter(self, front: _Front, state: WorkerState, detail: str) -> None:
        front.state, front.detail, front.since = state, detail, self._time.now()


def _row(front: _Front) -> RouterRow:
    pid = None if front.handle is None else front.handle.pid
    restarts = max(0, front.incarnation - 1)
    return RouterRow(front.router_id, front.state, front.url, front.detail, restarts, pid)


def _error(progress: RouterProgress) -> Failure:
    if progress.error is None:
        return BatonError(Reason.INTERNAL, "it died")
    if "fault" in progress.error:
        return StartupError.from_wire(progress.error)
    return BatonError.from_wire(progress.error)
