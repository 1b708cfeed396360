"""What one router knows: live, as of the last report, or only what it sent itself."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from baton.ids import WorkerId
from baton.messages import Role
from simulator.fleet import Fleet, Worker
from simulator.plugs import Answer, Choice
from simulator.rules import Freshness
from simulator.traces.request import BLOCK_TOKENS, Request


@dataclass(frozen=True, slots=True)
class Report:
    """One worker's state at one moment, and the changes of its cache since the last report."""

    worker_id: WorkerId
    seen_s: float
    waiting: int
    queued_tokens: int
    queued_work_s: float
    step_left_s: float
    backlog_s: float
    batch: int
    kv_tokens: int
    kv_used: int
    kv_promised: int
    cache: tuple[tuple[int, bool], ...] = ()


class WorkerSight:
    """One worker as one router sees it; see `plugs.Sight`."""

    __slots__ = (
        "_changes",
        "_freshness",
        "_log",
        "_pending",
        "_shadow",
        "_worker",
        "backlog_s",
        "batch",
        "host",
        "kv_capacity",
        "kv_promised",
        "kv_tokens",
        "kv_used",
        "pending_requests",
        "pending_tokens",
        "pending_work_s",
        "queued_tokens",
        "queued_work_s",
        "role",
        "seen_s",
        "step_left_s",
        "waiting",
        "worker_id",
    )

    def __init__(self, worker: Worker, freshness: Freshness, now: float) -> None:
        self.worker_id = worker.worker_id
        self.role = worker.role
        self.host = worker.host
        self.kv_capacity = worker.engine.pool.capacity
        self._worker = worker
        self._freshness = freshness
        self._pending: list[tuple[float, int, float]] = []
        self._shadow: OrderedDict[int, None] = OrderedDict()
        follows = freshness.cache == "reported" and not freshness.live
        self._log: list[tuple[int, bool]] = worker.engine.pool.follow() if follows else []
        self._changes: list[tuple[int, bool]] | None = None
        self.seen_s = now
        self.waiting = self.queued_tokens = self.batch = self.kv_tokens = self.kv_used = 0
        self.kv_promised = 0
        self.queued_work_s = self.step_left_s = self.backlog_s = 0.0
        self.pending_requests = self.pending_tokens = 0
        self.pending_work_s = 0.0
        if freshness.load == "reported":
            self.refresh(now)
        self._apply_log(self._drained())

    def cached_tokens(self, request: Request) -> int:
        """How many tokens of the prompt are cached there, as far as this router knows."""
        keys = request.blocks[: request.whole_blocks]
        if self._freshness.cache == "reported" and self._freshness.live:
            found = self._worker.engine.pool.match(keys)
        else:
            found = _leading(self._shadow, keys)
        return min(found * BLOCK_TOKENS, request.input_tokens - 1)

    def cache_changes(self) -> list[tuple[int, bool]]:
        """What came or left since the last call, as far as this router knows."""
        if self._changes is None:
            live = self._freshness.cache == "reported" and self._freshness.live
            shadow = [(key, True) for key in self._shadow]
            self._changes = self._worker.engine.pool.follow() if live else shadow
        changes = self._changes.copy()
        self._changes.clear()
        return changes

    def uncached(self, request: Request) -> tuple[int, float]:
        """Tokens that it would have to compute, and the variable time that they take."""
        cached = self.cached_tokens(request)
        new = request.input_tokens - cached
        return new, self._worker.engine.times.chunk_s(new, cached)

    # --- reports ----------------------------------------------------------------------------------

    def refresh(self, now: float) -> None:
        """Takes over the truth."""
        worker, engine = self._worker, self._worker.engine
        self.seen_s = now
        self.waiting = len(engine.waiting) + len(engine.computing)
        self.queued_tokens = engine.queued_tokens
        self.queued_work_s = engine.queued_work_s
        self.step_left_s = engine.left_s(now)
        self.backlog_s = engine.backlog_s(now)
        self.batch = engine.batch + worker.inbound
        self.kv_tokens = engine.kv_tokens + worker.inbound_tokens
        self.kv_used = engine.pool.used
        self.kv_promised = worker.promised_tokens

    def report(self, now: float) -> Report:
        """What the worker would report now."""
        worker, engine = self._worker, self._worker.engine
        return Report(
            self.worker_id,
            now,
            len(engine.waiting) + len(engine.computing),
            engine.queued_tokens,
            engine.queued_work_s,
            engine.left_s(now),
            engine.backlog_s(now),
            engine.batch + worker.inbound,
            engine.kv_tokens + worker.inbound_tokens,
            engine.pool.used,
            worker.promised_tokens,
            self._drained(),
        )

    def apply(self, report: Report) -> None:
        """A report has come: it replaces what was known, and what was sent before it."""
        self._apply_log(report.cache)
        if self._freshness.load == "own":
            return
        for name in _REPORTED:
            setattr(self, name, getattr(report, name))
        self._pending = [entry for entry in self._pending if entry[0] > report.seen_s]
        self.pending_requests = len(self._pending)
        self.pending_tokens = sum(tokens for _, tokens, _ in self._pending)
        self.pending_work_s = sum(work_s for _, _, work_s in self._pending)

    def _drained(self) -> tuple[tuple[int, bool], ...]:
        changes = tuple(self._log)
        self._log.clear()
        return changes

    def _apply_log(self, changes: Sequence[tuple[int, bool]]) -> None:
        for key, came in changes:
            if came:
                self._shadow[key] = None
            else:
                self._shadow.pop(key, None)
        if self._changes is not None:
            self._changes.extend(changes)

    # --- what this router does itself -------------------------------------------------------------

    def sent(self, tokens: int, work_s: float, now: float) -> None:
        """Something was sent there that no report can hold yet."""
        if not self._freshness.live:
            self._pending.append((now, tokens, work_s))
            self.pending_requests += 1
            self.pending_tokens += tokens
            self.pending_work_s += work_s

    def remember(self, request: Request) -> None:
        """Its prompt will be cached there; what was sent longest ago is forgotten first."""
        shadow, keys = self._shadow, request.blocks[: request.whole_blocks]
        for key in reversed(keys):
            shadow[key] = None
            shadow.move_to_end(key)
        gone = []
        while len(shadow) * BLOCK_TOKENS > self.kv_capacity:
            gone.append((shadow.popitem(last=False)[0], False))
        if self._changes is not None:
            self._changes += [*((key, True) for key in keys), *gone]


_REPORTED = (
    "seen_s",
    "waiting",
    "queued_tokens",
    "queued_work_s",
    "step_left_s",
    "backlog_s",
    "batch",
    "kv_tokens",
    "kv_used",
    "kv_promised",
)


class RouterView:
    """One router's knowledge of the fleet; see `plugs.View`."""

    def __init__(self, router: int, freshness: Freshness, fleet: Fleet) -> None:
        self.router = router
        self.rounds = 0
        """Rounds of questions since the last dispatch."""
        self._freshness = freshness
        self._fleet = fleet
        self._now = 0.0
        self._version = -1
        self._sights: dict[WorkerId, WorkerSight] = {}
        self._pools: dict[Role, list[WorkerSight]] = {Role.PREFILL: [], Role.DECODE: []}
        self._own: dict[int, tuple[Choice, int, float]] = {}
        self._outdated = set(self._pools)
        """Pools whose live sights have not been refreshed since something happened."""

    @property
    def prefill(self) -> Sequence[WorkerSight]:
        """The workers that take prompts."""
        return self._seen(Role.PREFILL)

    @property
    def decode(self) -> Sequence[WorkerSight]:
        """The workers that take answers."""
        return self._seen(Role.DECODE)

    def at(self, now: float) -> RouterView:
        """This view at a moment: members are up to date."""
        self._now = now
        self._outdated = set(self._pools)
        if self._version != self._fleet.version:
            self._version = self._fleet.version
            for role, workers in self._fleet.by_role.items():
                self._pools[role] = [self._sight(worker) for worker in workers]
        return self

    def ask(self, request: Request, workers: Iterable[WorkerId]) -> list[Answer]:
        """One round of questions."""
        self.rounds += 1
        asked = [self._fleet.workers[worker_id] for worker_id in workers]
        return [self._answer(worker, request) for worker in asked if worker.alive]

    def _answer(self, worker: Worker, request: Request) -> Answer:
        engine = worker.engine
        found = engine.pool.match(request.blocks[: request.whole_blocks])
        cached = min(found * BLOCK_TOKENS, request.input_tokens - 1)
        queue_s = engine.backlog_s(self._now)
        own_s = engine.times.prefill_s(request.input_tokens - cached, cached)
        return Answer(worker.worker_id, engine.queued_tokens, cached, queue_s, queue_s + own_s)

    def _sight(self, worker: Worker) -> WorkerSight:
        sight = self._sights.get(worker.worker_id)
        if sight is None:
            sight = WorkerSight(worker, self._freshness, self._now)
            self._sights[worker.worker_id] = sight
        sight.role = worker.role
        return sight

    def _seen(self, role: Role) -> list[WorkerSight]:
        sights = self._pools[role]
        if role in self._outdated and self._freshness.load == "reported" and self._freshness.live:
            self._outdated.discard(role)
            for sight in sights:
                sight.refresh(self._now)
        return sights

    # --- news -------------------------------------------------------------------------------------

    def take_reports(self, now: float) -> list[Report]:
        """What all workers report now."""
        self.at(now)
        return [sight.report(now) for pool in self._pools.values() for sight in pool]

    def apply(self, reports: Iterable[Report]) -> None:
        """Reports have come."""
        for report in reports:
            self._sights[report.worker_id].apply(report)

    def sent(self, request: Request, choice: Choice, now: float) -> None:
        """This router has sent a request."""
        self._outdated = set(self._pools)
        decode = self._sights.get(choice.decode)
        computes = self._sights.get(choice.prefill or choice.decode)
        if decode is None or computes is None:
            return
        new, work_s = computes.uncached(request)
        if self._freshness.cache == "own":
            computes.remember(request)
        if self._freshness.load == "own":
            self._own[request.number] = (choice, new, work_s)
            _count_prompt(computes, new, work_s, 1)
            _count_answer(decode, request, 1)
            return
        computes.sent(new, work_s, now)
        if choice.prefill is not None:
            decode.sent(request.input_tokens, 0.0, now)

    def computed(self, request: Request) -> None:
        """A prompt that this router sent has been computed."""
        entry = self._own.get(request.number)
        if entry and entry[1]:
            choice, new, work_s = entry
            _count_prompt(self._sights[choice.prefill or choice.decode], new, work_s, -1)
            self._own[request.number] = (choice, 0, 0.0)

    def ended(self, request: Request) -> None:
        """A request that this router sent is over, or will be sent again."""
        self.computed(request)
        entry = self._own.pop(request.number, None)
        if entry:
            _count_answer(self._sights[entry[0].decode], request, -1)


def _count_prompt(sight: WorkerSight, new: int, work_s: float, sign: int) -> None:
    sight.waiting += sign
    sight.queued_tokens += sign * new
    sight.queued_work_s += sign * work_s
    sight.backlog_s = max(sight.backlog_s + sign * work_s, 0.0)


def _count_answer(sight: WorkerSight, request: Request, sign: int) -> None:
    sight.batch += sign
    sight.kv_tokens += sign * request.input_tokens
    sight.kv_used += sign * request.input_tokens


def _leading(held: OrderedDict[int, None], keys: Sequence[int]) -> int:
    for count, key in enumerate(keys):
        if key not in held:
            return count
    return len(keys)
