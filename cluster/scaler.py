"""Keeps the pools as large as the scaling law, or an operator, wants them.

Every few seconds all routers are asked what they measured; the law decides, and the crew follows.
What was decided is kept where a controller that starts again finds it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time as clock
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from baton.errors import BatonError, Reason
from baton.ids import WorkerId
from baton.messages import Role, WorkerState
from baton.tasks import TaskFault, Tasks
from cluster.crew import Crew
from cluster.fronts import Fronts
from cluster.plan import Plan, Time
from cluster.pools import resized, sizes
from cluster.ports import ScalingRow
from cluster.scaling.decision import Decision
from cluster.scaling.law import decide
from cluster.scaling.memory import Memory, from_json
from cluster.sights import view_of
from cluster.supervision import Wanted
from cluster.tally import ScalingFigures, Tally

_log = logging.getLogger(__name__)
_KEPT_LINES = 10


class Keeper(Protocol):
    """Keeps one text for whoever controls the cluster next. Both are called in a thread."""

    def load(self) -> str | None:
        """What was saved last, None if nothing was."""
        ...

    def save(self, text: str) -> None:
        """Replaces it. Never raises."""


class Scaler:
    """Belongs to one controller; `step` is called in every turn of its loop."""

    def __init__(
        self,
        crew: Crew,
        fronts: Fronts,
        plan: Plan,
        time: Time,
        keeper: Keeper | None = None,
        wall: Callable[[], float] = clock.time,
    ) -> None:
        self._crew = crew
        self._fronts = fronts
        self._plan = plan
        self._time = time
        self._keeper = keeper
        # The law remembers the shape of a day, over restarts.
        self._wall = wall
        self._tasks = Tasks("scaler")
        self._deciding: asyncio.Task[None] | None = None
        self._saving = asyncio.Lock()
        self._closed = False
        self._mode = plan.rules.scaling.mode
        self._memory = Memory()
        self._why: tuple[str, ...] = ()
        self._lately: tuple[str, ...] = ()
        self._due_at = 0.0
        self._began: dict[tuple[WorkerId, int], float] = {}
        self._startup_s = plan.rules.scaling.startup_s
        self._tally = Tally(time.now())

    @property
    def row(self) -> ScalingRow:
        """What is wanted, and why, as people are shown it."""
        size = sizes(self._crew.wanted)
        counts = size[Role.PREFILL], size[Role.DECODE]
        return ScalingRow(self._mode, *counts, self._why, self._lately, self._figures(size))

    def _figures(self, size: Mapping[Role, int]) -> ScalingFigures:
        rules, tally = self._plan.rules, self._tally
        prefill, decode = Role.PREFILL, Role.DECODE
        return ScalingFigures(
            tally.pool(prefill, rules.bounds(prefill), size[prefill] * rules.prefill_gpus),
            tally.pool(decode, rules.bounds(decode), size[decode] * rules.decode_gpus),
            tally.quiet_s(self._time.now()),
            rules.scaling.gpu_budget,
        )

    async def step(self) -> None:
        """One turn: decides when it is time to."""
        self._measure_starts()
        now = self._time.now()
        if self._mode == "auto" and now >= self._due_at and not self.tasks:
            self._due_at = now + self._plan.rules.scaling.interval_s
            run = self._decide()
            self._deciding = self._tasks.spawn(run, "decide", on_fault=self._faulted)

    @property
    def tasks(self) -> tuple[asyncio.Task[None], ...]:
        """The decision in flight."""
        one = self._deciding
        return () if one is None or one.done() else (one,)

    async def aclose(self) -> None:
        """Decides nothing more, and takes no orders."""
        self._closed = True
        await self._tasks.aclose()

    def set_by_hand(self, counts: Mapping[Role, int]) -> ScalingRow:
        """From now on so many workers, whatever comes.

        Raises BatonError outside the bounds, and once the cluster stops.
        """
        self._check_open()
        for role, count in counts.items():
            least, most = (1 if role is Role.DECODE else 0), self._plan.rules.bounds(role)[1]
            if not least <= count <= most:
                text = f"{role.value}={count}; allowed: from {least} to scaling."
                text += f"{role.value}_max_workers, which is {most}"
                raise BatonError(Reason.INVALID_REQUEST, text)
        self._mode, self._why = "manual", ()
        before = sizes(self._crew.wanted)
        counts = {**before, **counts}
        moves = self._moves(counts)
        self._crew.scale(resized(self._crew.wanted, counts, moves))
        self._tally.ordered(self._time.now())
        self._tally.resized(before, counts, moves)
        self._note("set by hand")
        self._tasks.spawn(self.save(), "save")
        return self.row

    def _moves(self, counts: Mapping[Role, int]) -> dict[Role, int]:
        """Who is too many in one pool and missed in the other need not be started anew."""
        size = sizes(self._crew.wanted)
        more = {role: counts[role] - size[role] for role in Role}
        may_change = self._plan.rules.scaling.role_changes
        pairs = ((Role.PREFILL, Role.DECODE), (Role.DECODE, Role.PREFILL))
        return {a: max(min(-more[a], more[b]), 0) for a, b in pairs} if may_change else {}

    def set_auto(self) -> ScalingRow:
        """From now on the law decides, beginning with what is there. Raises as `set_by_hand`."""
        self._check_open()
        self._mode, self._due_at = "auto", 0.0
        self._memory = Memory()
        self._note("the law decides from now on")
        self._tasks.spawn(self.save(), "save")
        return self.row

    def _check_open(self) -> None:
        # Nobody may be wanted any more: who is dismissed would be started again for ever.
        if self._closed:
            raise BatonError(Reason.DRAINING, "the cluster stops")

    async def restore(self) -> None:
        """Goes on where an earlier controller of this cluster was."""
        text = None if self._keeper is None else await asyncio.to_thread(self._keeper.load)
        if text is None:
            return
        try:
            kept = json.loads(text)
            wanted, memory = _wanted(kept["wanted"]), from_json(kept["memory"])
            startup_s, lately = float(kept["startup_s"]), tuple(map(str, kept["lately"]))
        except (ValueError, KeyError, TypeError) as error:
            _log.warning("what was decided earlier cannot be read: %s", error)
            return
        self._mode = "auto" if kept["mode"] == "auto" else "manual"
        self._memory, self._startup_s, self._lately = memory, startup_s, lately
        self._crew.scale(wanted)
        self._note("went on after a restart of the controller")

    async def save(self) -> None:
        """Keeps what was decided."""
        if self._keeper is None:
            return
        # One at a time, so that what is kept last is the latest.
        async with self._saving:
            kept = {
                "mode": self._mode,
                "wanted": _plain(self._crew.wanted),
                "memory": self._memory.as_json(),
                "startup_s": self._startup_s,
                "lately": self._lately,
            }
            await asyncio.to_thread(self._keeper.save, json.dumps(kept))

    async def _decide(self) -> None:
        signals = await self._fronts.signals()
        if self._mode != "auto":
            # An operator was faster than the routers.
            return
        rules = self._plan.rules
        view = view_of(
            self._crew.table, self._crew.wanted, signals, rules.slo.percentile, self._startup_s
        )
        decision = decide(view, self._memory, self._wall(), rules)
        self._memory = decision.memory
        self._why = tuple(why.text for why in decision.why)
        self._tally.decided(decision.why, self._time.now())
        self._carry_out(decision)
        await self.save()

    def _faulted(self, fault: TaskFault) -> None:
        # Whatever it is: pools that stay as they are serve on.
        error = fault.error
        self._tally.failed(self._time.now())
        self._why = (f"held, for the law failed: {type(error).__name__}: {error}",)

    def _carry_out(self, decision: Decision) -> None:
        counts = {Role.PREFILL: decision.prefill, Role.DECODE: decision.decode}
        moves = {Role.PREFILL: decision.to_decode, Role.DECODE: decision.to_prefill}
        wanted = resized(self._crew.wanted, counts, moves)
        if wanted != self._crew.wanted:
            self._tally.resized(sizes(self._crew.wanted), counts, moves)
            self._crew.scale(wanted)
            self._note("; ".join(self._why))

    def _note(self, text: str) -> None:
        size = sizes(self._crew.wanted)
        counts = f"prefill {size[Role.PREFILL]}, decode {size[Role.DECODE]}"
        _log.info("scaling: %s wanted: %s", counts, text)
        at = clock.strftime("%X", clock.localtime(self._wall()))
        self._lately = (*self._lately, f"{at} {counts}: {text}")[-_KEPT_LINES:]

    def _measure_starts(self) -> None:
        now, began = self._time.now(), self._began
        for row in self._crew.table.rows:
            start = (row.worker_id, row.incarnation)
            if row.state in (WorkerState.STARTING, WorkerState.WARMING):
                # Waiting for a machine is no part of starting on one.
                began[start] = now if row.waits else began.get(start, now)
            elif (since := began.pop(start, None)) and row.state is WorkerState.READY:
                self._startup_s = now - since


def _plain(wanted: Wanted) -> dict[str, Any]:
    return {"prefill": wanted.prefill, "decode": wanted.decode, "roles": dict(wanted.roles)}


def _wanted(kept: Mapping[str, Any]) -> Wanted:
    roles = tuple((WorkerId(name), Role(role)) for name, role in kept["roles"].items())
    return Wanted(int(kept["prefill"]), int(kept["decode"]), roles)
