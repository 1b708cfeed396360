"""What a router of the full cluster model knows, in the terms of the reference setting."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from baton.ids import WorkerId
from router.policy.index import Applied, BlockIndex, Delta, Levels
from simulator.plugs import Sight, View
from simulator.rules import ClusterRules
from simulator.traces.request import BLOCK_TOKENS
from simulator.words import Arrival, Setting


class ClusterKnowledge:
    """Positions are those in which prefill workers were first seen. See `words.Knowledge`."""

    def __init__(self, rules: ClusterRules, slo_s: float) -> None:
        times, freshness = rules.times, rules.freshness
        self.setting = Setting(
            workers=rules.prefill,
            cache_tokens=rules.engine.kv_tokens,
            fixed_s=times.prefill_fixed_s,
            token_s=times.prefill_token_s,
            pair_s=times.prefill_pair_s,
            slo_s=slo_s,
            routers=rules.routers,
            report_s=freshness.every_s,
            own_view=freshness.cache == "own",
        )
        self.curve = self.setting.curve
        self._index = BlockIndex(1 << 30)
        self._numbers = [0] * rules.prefill
        self._free_at_s = [0.0] * rules.prefill
        self._seen_s = [-1.0] * rules.prefill
        self._names: list[WorkerId] = []
        self._positions: dict[WorkerId, int] = {}
        self._levels: dict[tuple[int, ...], Levels] = {}
        self._view: View | None = None

    def look(self, view: View, now: float) -> None:
        """Takes over what has become known. Comes before each use of what is below."""
        self._view = view
        self._levels.clear()
        for sight in view.prefill:
            position = self._place(sight.worker_id)
            self._note(position, sight.cache_changes(), now)
            if sight.seen_s != self._seen_s[position]:
                self._seen_s[position] = sight.seen_s
                self._free_at_s[position] = sight.seen_s + sight.backlog_s + sight.pending_work_s

    def position(self, worker_id: WorkerId) -> int:
        """The position of a worker."""
        return self._positions[worker_id]

    def name(self, position: int) -> WorkerId:
        """The worker at a position."""
        return self._names[position]

    def sent(self, arrival: Arrival, worker: int, now: float) -> None:
        """A request is on its way to a worker, whose next report may not have it."""
        cached = self.cached_at(arrival, worker)
        work_s = self.curve.seconds(arrival.tokens - cached, cached)
        self._free_at_s[worker] = max(self._free_at_s[worker], now) + work_s

    def members(self, now: float) -> tuple[int, ...]:
        """The workers that take requests, in order."""
        return tuple(sorted(self._positions[s.worker_id] for s in self._sights()))

    def pending_s(self, now: float) -> list[float]:
        """Seconds of work before a new request."""
        if self.setting.report_s:
            return [max(free_s - now, 0.0) for free_s in self._free_at_s]
        found = [0.0] * self.setting.workers
        for sight in self._sights():
            found[self._positions[sight.worker_id]] = sight.backlog_s
        return found

    def cached_tokens(self, arrival: Arrival) -> list[int]:
        """How many of its tokens each worker holds."""
        found = [0] * self.setting.workers
        for blocks, mask in self.levels(arrival.blocks):
            tokens = min(blocks * BLOCK_TOKENS, arrival.tokens - 1)
            for worker in range(len(found)):
                if mask >> worker & 1:
                    found[worker] = tokens
        return found

    def cached_at(self, arrival: Arrival, worker: int) -> int:
        """The same for one worker."""
        return self.cached_tokens(arrival)[worker]

    def levels(self, blocks: Sequence[int]) -> Levels:
        """The same as the policy's index has it."""
        key = tuple(blocks)
        found = self._levels.get(key)
        if found is None:
            found = self._levels[key] = self._index.match(key)
        return found

    def _sights(self) -> Sequence[Sight]:
        return self._view.prefill if self._view else ()

    def _place(self, worker_id: WorkerId) -> int:
        if worker_id not in self._positions:
            self._positions[worker_id] = len(self._names)
            self._names.append(worker_id)
        return self._positions[worker_id]

    def _note(self, position: int, changes: Iterable[tuple[int, bool]], now: float) -> None:
        last = dict(changes)
        first = not self._numbers[position]
        if not (last or first):
            return
        self._numbers[position] += 1
        stored = tuple(key for key, came in last.items() if came)
        removed = tuple(key for key, came in last.items() if not came)
        delta = Delta(self._numbers[position], stored, removed, full=first)
        applied = self._index.apply(position, delta, now)
        assert applied is Applied.OK, applied
