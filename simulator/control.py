"""The controller's desk: what it is shown every few seconds, and how its wishes become changes."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from baton.messages import Role
from simulator.fleet import State, Worker
from simulator.job import Record
from simulator.plugs import ClusterSight, Controller, PoolView, Wanted
from simulator.traces.request import Request

if TYPE_CHECKING:
    from simulator.cluster_model import Cluster


class Window:
    """Measurements of the last seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._arrived: deque[tuple[float, int, int]] = deque()
        self._started: deque[tuple[float, int, int]] = deque()
        self._finished: deque[tuple[float, int]] = deque()
        self._ttft: deque[tuple[float, float]] = deque()
        self._tpot: deque[tuple[float, float]] = deque()
        self._unanswered: dict[int, Record] = {}

    def arrived(self, request: Request, now: float) -> None:
        """A request came."""
        self._arrived.append((now, request.input_tokens, request.output_tokens))

    def started(self, record: Record, uncached: int, now: float) -> None:
        """A prompt is being computed."""
        self._started.append((now, uncached, record.request.input_tokens))
        if record.first_s < 0:
            self._unanswered[record.request.number] = record

    def finished(self, record: Record, now: float) -> None:
        """An answer is complete."""
        self._finished.append((now, record.request.output_tokens))
        if record.request.output_tokens > 1:
            self._tpot.append((now, record.tpot_s))

    def move(self, now: float) -> None:
        """Forgets what is too old, and notes the first tokens that have come."""
        come = [r for r in self._unanswered.values() if 0 <= r.first_s <= now]
        for record in sorted(come, key=lambda r: r.first_s):
            del self._unanswered[record.request.number]
            self._ttft.append((record.first_s, record.ttft_s))
        oldest = now - self.seconds
        kinds: tuple[deque[Any], ...] = (self._arrived, self._started, self._finished)
        for kept in (*kinds, self._ttft, self._tpot):
            while kept and kept[0][0] < oldest:
                kept.popleft()

    @property
    def arrivals(self) -> tuple[int, int, int]:
        """Requests, tokens of their prompts, tokens of their answers."""
        kept = self._arrived
        return len(kept), sum(a[1] for a in kept), sum(a[2] for a in kept)

    @property
    def prompts(self) -> tuple[int, int]:
        """Of prompts that started: tokens that had to be computed, and all."""
        return sum(s[1] for s in self._started), sum(s[2] for s in self._started)

    @property
    def answers(self) -> tuple[int, int]:
        """Those that ended, and their tokens."""
        return len(self._finished), sum(tokens for _, tokens in self._finished)

    @property
    def ttft_s(self) -> tuple[float, ...]:
        """Of those who got their first token."""
        return tuple(seconds for _, seconds in self._ttft)

    @property
    def tpot_s(self) -> tuple[float, ...]:
        """Of those who finished."""
        return tuple(seconds for _, seconds in self._tpot)


class Desk:
    """Runs one controller."""

    def __init__(self, cluster: Cluster, controller: Controller) -> None:
        self._cluster = cluster
        self._controller = controller
        self._memory: object = None
        self.window = Window(cluster.rules.window_s)
        self.said: list[tuple[float, Wanted]] = []
        """What the controller wanted whenever that changed."""

    def control(self, _: None, now: float) -> None:
        """One round."""
        self.window.move(now)
        wanted, self._memory = self._controller.decide(self._sight(now), self._memory, now)
        if not self.said or self.said[-1][1] != wanted:
            self.said.append((now, wanted))
        self._act(wanted, now)
        self._cluster.clock.at(now + self._cluster.rules.control_every_s, self.control, None)

    # --- what it is shown -------------------------------------------------------------------------

    def _sight(self, now: float) -> ClusterSight:
        cluster, window = self._cluster, self.window
        arrivals, input_tokens, output_tokens = window.arrivals
        uncached_tokens, started_tokens = window.prompts
        finished, finished_tokens = window.answers
        held = cluster.holding.flights.values()
        waiting = (f.request.arrival_s for f in cluster.flights.values() if f.record.first_s < 0)
        senders = cluster.fleet.by_role[Role.PREFILL]
        return ClusterSight(
            prefill=self._pool(Role.PREFILL, window.ttft_s, now),
            decode=self._pool(Role.DECODE, window.tpot_s, now),
            arrivals=arrivals,
            input_tokens=input_tokens,
            uncached_tokens=uncached_tokens,
            started_tokens=started_tokens,
            output_tokens=output_tokens,
            unplaced=len(held),
            unplaced_tokens=sum(f.prompt_tokens for f in held),
            finished=finished,
            finished_tokens=finished_tokens,
            oldest_s=now - min(waiting, default=now),
            transfer_backlog_s=max(
                (cluster.wires.backlog_s(w.worker_id, now) for w in senders), default=0.0
            ),
            window_s=window.seconds,
            startup_s=cluster.rules.startup_s,
        )

    def _pool(self, role: Role, latency_s: tuple[float, ...], now: float) -> PoolView:
        fleet = self._cluster.fleet
        engines = [w.engine for w in fleet.by_role[role]]
        return PoolView(
            ready=fleet.count(role, State.READY),
            starting=fleet.count(role, State.STARTING) + fleet.count(role, State.CHANGING),
            draining=fleet.count(role, State.DRAINING),
            backlog_s=tuple(engine.backlog_s(now) for engine in engines),
            kv_share=tuple(engine.pool.used / engine.pool.capacity for engine in engines),
            batch=tuple(engine.batch for engine in engines),
            waiting=tuple(map(_waiting, fleet.by_role[role])),
            latency_s=latency_s,
        )

    # --- how it acts ------------------------------------------------------------------------------

    def _act(self, wanted: Wanted, now: float) -> None:
        for role, count in ((Role.PREFILL, wanted.to_decode), (Role.DECODE, wanted.to_prefill)):
            for worker in self._least_busy(role, now)[:count]:
                self._cluster.changes.change_role(worker, now)
        for role, count in ((Role.PREFILL, wanted.prefill), (Role.DECODE, wanted.decode)):
            self._resize(role, max(count, 0), now)

    def _resize(self, role: Role, count: int, now: float) -> None:
        fleet, changes = self._cluster.fleet, self._cluster.changes
        coming = [w for w in fleet.workers.values() if w.role is role and w.state is State.STARTING]
        changing = fleet.count(role, State.CHANGING)
        surplus = fleet.count(role, State.READY) + changing + len(coming) - count
        for _ in range(-surplus):
            changes.start(role, now)
        # Those that still start go first: nothing is lost with them.
        leaving = [*reversed(coming), *self._least_busy(role, now)]
        for worker in leaving[: max(surplus, 0)]:
            changes.drain(worker, now)

    def _least_busy(self, role: Role, now: float) -> list[Worker]:
        workers = [w for w in self._cluster.fleet.by_role[role] if w.state is State.READY]
        return sorted(workers, key=lambda w: (w.engine.backlog_s(now), w.engine.kv_tokens))


def _waiting(worker: Worker) -> int:
    """Requests here that wait, or whose prompt is being computed."""
    engine = worker.engine
    return len(engine.waiting) + len(engine.computing) + len(worker.wanting)
