"""The workers: carries out what supervision decides, and tells membership what became of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from baton.errors import BatonError, Reason, StartupError
from baton.ids import WorkerId
from baton.messages import WorkerInfo, WorkerState
from cluster.deaths import Deaths, Doubt, end_for_good
from cluster.jobs import Failure, Jobs, end_gently, first_end, is_late
from cluster.membership import (
    DrainAsked,
    Event,
    Row,
    Table,
    WorkerDied,
    WorkerPlaced,
    WorkerProgressed,
    WorkerReady,
    WorkerStopped,
    WorkerWarming,
    apply,
    check_invariants,
)
from cluster.news import Reader, died
from cluster.placing import waits
from cluster.plan import Plan, Time
from cluster.ports import ActorFactory, Adopted, Handle, Placement, StartProgress
from cluster.standing_in import lendings
from cluster.supervision import (
    ALIVE,
    Action,
    DeclareDead,
    GiveUp,
    Memory,
    Place,
    Start,
    Stop,
    Wanted,
    decide,
)
from cluster.upgrading import outdated
from cluster.warming import company

_log = logging.getLogger(__name__)
_Events = tuple[Event, ...]
_NOTICE_S = 3.0
"""Routers hear that a worker takes nothing new before it does so, but nobody waits longer."""


class Crew:
    """Owns the handles of all workers. One `step` decides, acts and gathers what happened."""

    def __init__(self, factory: ActorFactory, plan: Plan, time: Time) -> None:
        self.table = Table()
        self._factory = factory
        self._plan = plan
        self._time = time
        self._reader = Reader(plan.digest, plan.rules.scaling.warm_timeout_s)
        self._wanted = plan.wanted
        self._memory = Memory()
        self._jobs: Jobs[_Events] = Jobs("crew")
        self._handles: dict[WorkerId, Handle] = {}
        self._running: dict[WorkerId, WorkerInfo] = {}
        self._deaths = Deaths()
        self._heard_at: dict[WorkerId, float] = {}
        self._drain_s = plan.drain_timeout_s
        self._dismissed = False
        self._asked: set[Start] = set()
        self.told: Callable[[int], bool] = lambda _version: True
        """Whether all routers have heard of a version of the table."""
        self.awaited: Callable[[], bool] = lambda: False
        """Whether routers serve that know only workers of another version."""

    async def adopt(self, found: Sequence[Adopted], version: int) -> None:
        """Takes over the workers that an earlier controller left running, and asks each how it is.

        `version`: the last one that routers were told of by that controller.
        """
        self.table = Table(max(version, self.table.version), self.table.rows)
        starts = frozenset((one.placement.worker_id, one.placement.incarnation) for one in found)
        self._reader = replace(self._reader, found=starts)
        # What serves is not ended because something else cannot be started.
        self._memory = replace(self._memory, was_complete=self._memory.was_complete or bool(found))
        for one in found:
            worker_id = one.placement.worker_id
            self._handles[worker_id] = one.handle
            self._heard_at[worker_id] = self._time.now()
            self._apply((self._placed(one.placement),))
        new = [row for row in self.table.rows if row.state is WorkerState.STARTING]
        for events in await asyncio.gather(*map(self._take_over, new)):
            self._apply(events)

    def ask_to_drain(self, worker_id: WorkerId) -> int:
        """Lets a worker finish what it has, and starts it anew; its incarnation until then.

        Raises BatonError if it is not there to be drained. May be called again.
        """
        row = self.table.row(worker_id)
        if row is None:
            raise BatonError(Reason.NO_WORKER, f"there is no worker {worker_id}")
        if row.state is not WorkerState.READY:
            raise BatonError(Reason.DRAINING, f"{worker_id} is {row.state.value}, not ready")
        self._asked.add((worker_id, row.incarnation))
        return row.incarnation

    @property
    def wanted(self) -> Wanted:
        """Who should be there."""
        return self._wanted

    def scale(self, wanted: Wanted) -> None:
        """From the next step on other workers should be there, or in other pools."""
        self._wanted = wanted

    @property
    def complete(self) -> bool:
        """Whether everyone who is wanted is ready."""
        ready = {row.worker_id for row in self.table.rows if row.state is WorkerState.READY}
        return all(worker_id in ready for worker_id, _ in self._wanted.slots())

    @property
    def empty(self) -> bool:
        """Whether no worker process is left."""
        gone = all(row.state is WorkerState.GONE for row in self.table.rows)
        return gone and not self._handles

    @property
    def tasks(self) -> tuple[asyncio.Task[_Events], ...]:
        """The jobs in flight."""
        return self._jobs.tasks

    def handle(self, worker_id: WorkerId) -> Handle | None:
        """The process behind a worker, None while there is none."""
        return self._handles.get(worker_id)

    async def step(self) -> None:
        """One turn: decides, acts, and takes in what the jobs found out.

        Raises StartupError when the first start of the cluster has to be given up.
        """
        now, limits = self._time.now(), self._plan.limits
        there = {(row.worker_id, row.incarnation) for row in self.table.rows}
        self._asked &= there
        self._asked |= outdated(self.table, self._wanted, self._plan.digest, kept=self.awaited())
        actions, self._memory = decide(
            self.table, self._wanted, limits, self._memory, now, asked=self._asked
        )
        for action in actions:
            await self._act(action)
        self._apply(waits(self.table, self._factory.waiting(), now))
        for row in self.table.rows:
            self._poll_if_due(row)
        for doubt in self._deaths.doubts:
            self._try_again_if_due(doubt)
        for key, events in self._jobs.collect():
            self._apply(events)
            self._bury_if_dead(WorkerId(key))
        self._lend()

    async def dismiss(self, drain_s: float) -> None:
        """Drains and stops every worker; returns when none is left."""
        self._wanted, self._drain_s, self._dismissed = Wanted(0, 0), drain_s, True
        await self.step()
        while not self.empty:
            await first_end(self.tasks, self._plan.health_interval_s, self._time)
            await self.step()

    async def kill(self) -> None:
        """Ends every worker at once."""
        await self._jobs.aclose()
        await asyncio.gather(*map(self._make_sure, tuple(self._handles)))

    async def _act(self, action: Action) -> None:
        match action:
            case GiveUp(error):
                raise error
            case Place(placement) if not self._jobs.busy(placement.worker_id):
                self._apply((self._placed(placement),))
                self._jobs.start(placement.worker_id, "place", self._place(placement))
            case Stop(worker_id, incarnation, why):
                _log.info("%s (start %d) is stopped: %s", worker_id, incarnation, why)
                await self._retire(worker_id, incarnation)
            case DeclareDead(worker_id, incarnation, error):
                self._apply((self._died(worker_id, incarnation, error),))
                await self._jobs.replace(worker_id, "bury", self._bury(worker_id))

    def _poll_if_due(self, row: Row) -> None:
        idle = row.worker_id in self._handles and not self._jobs.busy(row.worker_id)
        if row.state in ALIVE and idle:
            self._jobs.start(row.worker_id, "poll", self._poll(row))

    async def _place(self, placement: Placement) -> _Events:
        worker_id = placement.worker_id
        try:
            self._handles[worker_id] = await self._factory.worker(placement)
        except (BatonError, StartupError) as error:
            return (self._died(worker_id, placement.incarnation, error),)
        return await self._start(worker_id, placement.incarnation)

    async def _start(self, worker_id: WorkerId, incarnation: int) -> _Events:
        try:
            await self._handles[worker_id].call("start", timeout_s=self._plan.call_timeout_s)
        except (BatonError, StartupError) as error:
            return (self._died(worker_id, incarnation, error),)
        self._heard_at[worker_id] = self._time.now()
        return (WorkerProgressed(worker_id, incarnation, "starting", self._time.now()),)

    async def _poll(self, row: Row) -> _Events:
        events = await self._look(row)
        # Polls follow each other at the health interval; the pause is part of the job.
        if not any(isinstance(event, WorkerDied) for event in events):
            self._apply(events)
            await self._time.pause(self._interval(row))
            return ()
        return events

    async def _take_over(self, row: Row) -> _Events:
        events = await self._look(row)
        settled = any(not isinstance(event, WorkerProgressed) for event in events)
        # Whoever placed it may have ended before it could tell it to start.
        return events if settled else await self._start(row.worker_id, row.incarnation)

    async def _look(self, row: Row) -> _Events:
        handle = self._handles[row.worker_id]
        try:
            progress = await handle.call("progress", timeout_s=self._plan.call_timeout_s)
        except (BatonError, StartupError) as error:
            return self._unheard(row, error)
        self._heard_at[row.worker_id] = self._time.now()
        if progress.leaving:
            self._asked.add((row.worker_id, row.incarnation))
        await self._tell_deaths(row, progress.accused)
        await self._warm(row, progress)
        return self._reader.events(row, progress, self._time.now())

    async def _tell_deaths(self, row: Row, accused: tuple[str, ...]) -> None:
        agents = self._deaths.untold(row.worker_id, row.incarnation, accused)
        if not agents or row.state is not WorkerState.READY:
            return
        if await self._tell(row, "peers_dead", agents):
            self._deaths.told(row.worker_id, row.incarnation, agents)

    async def _warm(self, row: Row, progress: StartProgress) -> None:
        if row.state is WorkerState.WARMING and progress.warmed is None:
            scaling = self._plan.rules.scaling
            own = dict(self._wanted.roles)
            role, peers = company(self.table, row, own, scaling.warm_peers_max)
            await self._tell(row, "warm", role, peers, scaling.warm_timeout_s)

    async def _tell(self, row: Row, method: str, *args: object) -> bool:
        handle = self._handles[row.worker_id]
        try:
            await handle.call(method, *args, timeout_s=self._plan.call_timeout_s)
        except (BatonError, StartupError) as error:
            # It is told again after the next poll, which also finds out what ails it.
            _log.info("%s was not reached (%s): %s", row.worker_id, method, error)
            return False
        return True

    def _interval(self, row: Row) -> float:
        # Start-up is watched more closely: nobody wants to wait for the next look.
        share = 1.0 if row.state is WorkerState.READY else 0.2
        return self._plan.health_interval_s * share

    def _unheard(self, row: Row, error: Failure) -> _Events:
        silent_s = self._time.now() - self._heard_at[row.worker_id]
        # Loading a model may hold the interpreter for long; the start has a bound of its own.
        patient = row.state is WorkerState.STARTING or silent_s < self._plan.silence_s
        late = is_late(error) and patient
        return () if late else (self._died(row.worker_id, row.incarnation, error),)

    async def _retire(self, worker_id: WorkerId, incarnation: int) -> None:
        row = self.table.row(worker_id)
        assert row is not None
        drain_s = self._drain_s if row.state is WorkerState.READY else 0.0
        self._apply((DrainAsked(worker_id, incarnation, self._time.now()),))
        self._lend()
        await self._jobs.replace(worker_id, "retire", self._end(worker_id, incarnation, drain_s))

    def _lend(self) -> None:
        if self._wanted.slots():
            own = dict(self._wanted.roles)
            self._apply(lendings(self.table, self._asked, self._time.now(), own))

    async def _give_notice(self) -> None:
        version, until = self.table.version, self._time.now() + _NOTICE_S
        while not (self._dismissed or self.told(version)) and self._time.now() < until:
            await self._time.pause(min(0.1, self._plan.health_interval_s))

    async def _end(self, worker_id: WorkerId, incarnation: int, drain_s: float) -> _Events:
        handle = self._handles.get(worker_id)
        if handle is not None:
            if drain_s > 0:
                await self._give_notice()
            await end_gently(handle, self._plan, self._time, drain_s)
            await self._make_sure(worker_id)
        return (WorkerStopped(worker_id, incarnation, self._time.now()),)

    def _bury_if_dead(self, worker_id: WorkerId) -> None:
        row = self.table.row(worker_id)
        gone = row is not None and row.state is WorkerState.GONE
        if gone and worker_id in self._handles and not self._jobs.busy(worker_id):
            self._jobs.start(worker_id, "bury", self._bury(worker_id))

    async def _bury(self, worker_id: WorkerId) -> _Events:
        # The next incarnation needs the memory and the core of this one: it waits for this job.
        await self._make_sure(worker_id)
        return ()

    async def _make_sure(self, worker_id: WorkerId) -> None:
        handle = self._handles.get(worker_id)
        if handle is not None:
            await end_for_good(handle, self._running.get(worker_id), self._deaths)
            self._handles.pop(worker_id, None)
            self._running.pop(worker_id, None)

    def _try_again_if_due(self, doubt: Doubt) -> None:
        if not self._jobs.busy(doubt.agent):
            self._jobs.start(doubt.agent, "kill once more", self._try_again(doubt))

    async def _try_again(self, doubt: Doubt) -> _Events:
        await self._time.pause(doubt.gap_s)
        self._deaths.learn(await doubt.handle.kill(*doubt.engine), doubt.later())
        return ()

    def _apply(self, events: _Events) -> None:
        for event in events:
            self.table = apply(self.table, event)
            if isinstance(event, WorkerWarming | WorkerReady):
                self._running[event.worker_id] = event.info
            if isinstance(event, WorkerReady) and event.detail:
                _log.warning("%s is ready all the same: %s", event.worker_id, event.detail)
            if isinstance(event, WorkerDied):
                _log.warning(
                    "%s (start %d) died: %s", event.worker_id, event.incarnation, event.why
                )
        check_invariants(self.table)

    def _placed(self, p: Placement) -> WorkerPlaced:
        return WorkerPlaced(p.worker_id, p.role, p.incarnation, p.core_index, self._time.now())

    def _died(self, worker_id: WorkerId, incarnation: int, error: Failure) -> WorkerDied:
        return died(worker_id, incarnation, error, self._time.now())
