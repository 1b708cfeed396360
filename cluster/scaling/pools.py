"""Judges one pool: how many workers its worst signal asks for, and whether one could leave.

Work is counted in busy workers: arriving tokens over what one worker does within the promises. It
moves when requests come, before any queue does; latency says only what went wrong, and goes
vertical when it is too late. So load and backlog size the pool, and latency and memory correct
them where the model of a worker is off.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from baton.messages import Role
from cluster.scaling import forecast
from cluster.scaling.decision import Reason
from cluster.scaling.memory import PoolMemory
from cluster.scaling.rules import Rules
from cluster.scaling.view import PoolSight, ScalingView, Signal

_STEP_MAX = 2.0
"""A signal asks for at most so many times the ready workers: beyond the knee its size says nothing
(llm-d clamps likewise)."""
_CORRECTION_MAX = 1.5
"""How wrong the model of a worker may be: latency asks for so many times what the load does."""
_PATIENCE_MAX_S = 3600.0
_REGRET_S = 3600.0
"""A removal that is missed within an hour was a mistake, and slows the next down so many times."""
_SLOWER = 2.0
_SWING = 8.0
"""Random arrivals swing from a lull to a surge by so many times their noise: whoever stays has to
carry a surge, for one fewer may only do in a lull."""
_TINY = 1e-6


@dataclass(frozen=True, slots=True)
class Need:
    """What one pool asks for. Loads in busy workers."""

    role: Role
    current: int
    """Workers that were wanted before; at first those that are there."""
    wanted: int
    load: float
    spare: int
    """Workers that could leave at once and nobody would miss them."""
    reason: Reason
    text: str


@dataclass(frozen=True, slots=True)
class Asking:
    """One signal, and the workers that it asks for."""

    workers: float
    reason: Reason
    text: str


@dataclass(frozen=True, slots=True)
class Desk:
    """One pool as it is judged."""

    role: Role
    pool: PoolSight
    view: ScalingView
    memory: PoolMemory
    rules: Rules
    now: float
    passed_on: float = 1.0
    """Share of the arriving work that the other pool can ever pass on."""
    blamed: bool = True
    """Whether late first tokens are this pool's doing."""

    @property
    def level(self) -> float:
        """The load now."""
        return self.memory.past.level * self.passed_on

    @property
    def ahead(self) -> float:
        """The load when a worker that is asked for now serves."""
        horizon_s = self.view.startup_s + self.rules.scaling.interval_s
        return forecast.ahead(self.memory.past, horizon_s, self.now) * self.passed_on

    @property
    def noise(self) -> float:
        """How far the load is off its level on average."""
        return forecast.noise(self.memory.past) * self.passed_on

    def staffed(self, load: float) -> float:
        """Square-root staffing (Halfin and Whitt 1981): queues stay short with spare workers in
        proportion to the root of the load, so that small pools are the least busy."""
        return load + self.rules.scaling.headroom * math.sqrt(load)

    @property
    def settled(self) -> bool:
        """Whether what was measured over the window is of the pool as it is, and of requests that
        came when it was."""
        return self.now - self.memory.changed_s >= 2 * self.rules.slo.window_s


def remember(memory: PoolMemory, pool: PoolSight, now: float) -> PoolMemory:
    """Takes in what the pool shows."""
    changed_s = now if pool.ready != memory.ready >= 0 else memory.changed_s
    past = forecast.seen(memory.past, pool.load, now)
    return replace(memory, past=past, ready=pool.ready, changed_s=changed_s)


def judge(desk: Desk) -> tuple[Need, PoolMemory]:
    """What the pool needs, and its memory afterwards."""
    scaling, memory, pool = desk.rules.scaling, desk.memory, desk.pool
    # What was said counts, not what is there: who leaves may still be there, who is lost is not.
    said = memory.wanted if memory.wanted >= 0 else pool.provisioned
    current = desk.rules.clamp(desk.role, said)
    worst = max(_asking(desk), key=lambda asking: asking.workers)
    asked = desk.rules.clamp(desk.role, math.ceil(worst.workers - _TINY))
    spare = _spare(desk, current)
    patience_s = memory.patience_s or scaling.down_after_s
    if asked > current:
        regretted = memory.removed_s >= 0 and desk.now - memory.removed_s < _REGRET_S
        if regretted:
            patience_s = min(patience_s * _SLOWER, _PATIENCE_MAX_S)
        memory = replace(memory, calm_since_s=-1.0, removed_s=-1.0, patience_s=patience_s)
        return _need(desk, current, asked, spare, worst), memory
    if not spare:
        steady = Asking(worst.workers, Reason.STEADY, f"enough: {worst.text}")
        return _need(desk, current, current, 0, steady), replace(memory, calm_since_s=-1.0)
    calm_s = memory.calm_since_s if memory.calm_since_s >= 0 else desk.now
    memory = replace(memory, calm_since_s=calm_s)
    if desk.now - calm_s < patience_s:
        text = f"one fewer would do for {desk.now - calm_s:.0f} of {patience_s:.0f} s"
        return _need(desk, current, current, spare, Asking(0, Reason.STEADY, text)), memory
    stood = desk.now - memory.removed_s >= _REGRET_S
    memory = replace(
        memory,
        calm_since_s=-1.0,
        removed_s=desk.now,
        patience_s=scaling.down_after_s if stood and memory.removed_s >= 0 else patience_s,
    )
    text = f"{current - 1} do for a load of {desk.level:.2f}: {worst.text}"
    return _need(desk, current, current - 1, spare, Asking(0, Reason.FEWER, text)), memory


# --- up -------------------------------------------------------------------------------------------


def _asking(desk: Desk) -> Iterator[Asking]:
    """What each signal asks for; the worst one wins."""
    scaling, startup_s = desk.rules.scaling, desk.view.startup_s
    level, ahead = desk.level, desk.ahead
    spare = f"{scaling.headroom:g} times the root of that to spare"
    yield Asking(desk.staffed(level), Reason.LOAD, f"{level:.2f} busy workers, {spare}")
    if ahead > level:
        text = f"{ahead:.2f} busy workers expected in {startup_s:.0f} s, {spare}"
        yield Asking(desk.staffed(ahead), Reason.FORECAST, text)
    yield _backlog(desk)
    if desk.settled:
        yield from _latency(desk)
    yield from _memory(desk)


def _backlog(desk: Desk) -> Asking:
    """What is left of the backlog when a worker that is asked for now serves is to be gone one
    window later."""
    waits_s = _value(desk.pool.backlog_s)
    left = waits_s * desk.pool.ready + (desk.level - desk.pool.ready) * desk.view.startup_s
    late = waits_s > desk.rules.slo.ttft_s / 2
    workers = desk.level + max(left, 0.0) / desk.rules.slo.window_s if late else 0.0
    return Asking(workers, Reason.BACKLOG, f"{waits_s:.1f} s of work wait")


def _latency(desk: Desk) -> Iterator[Asking]:
    """At most so much more than the load asks for: workers that have little to do make nothing
    faster, so a promise that cannot be kept does not buy all machines."""
    most = _CORRECTION_MAX * desk.staffed(desk.level)
    margin = desk.rules.scaling.latency_margin
    for what, reason, ratio in _ratios(desk):
        workers = desk.pool.ready * min(ratio / margin, _STEP_MAX)
        text = f"{what} {reason.upper()} at {ratio:.2f} of the promise, margin {margin:.2f}"
        yield Asking(min(workers, most), reason, text)
    sending_s = _value(desk.view.transfer_backlog_s)
    if desk.role is Role.PREFILL and sending_s > desk.rules.slo.ttft_s / 2:
        text = f"KV still leaves for {sending_s:.1f} s"
        asked = desk.pool.ready * min(2 * sending_s / desk.rules.slo.ttft_s, _STEP_MAX)
        yield Asking(min(asked, most), Reason.TRANSFER, text)


def _ratios(desk: Desk) -> Iterator[tuple[str, Reason, float]]:
    """Percentiles over their promises: TPOT is decode's, TTFT whose fault it is."""
    if desk.role is Role.DECODE:
        yield "attained", Reason.TPOT, _value(desk.pool.attained)
        yield "predicted", Reason.TPOT, _value(desk.pool.predicted)
    if desk.blamed:
        yield "attained", Reason.TTFT, _value(desk.view.prefill.attained)
        yield "predicted", Reason.TTFT, _value(desk.view.prefill.predicted)


def _memory(desk: Desk) -> Iterator[Asking]:
    if desk.role is Role.DECODE:
        used, limit = _value(desk.pool.kv_used), desk.rules.scaling.kv_utilization
        workers = desk.pool.ready * min(used / limit, _STEP_MAX)
        yield Asking(workers, Reason.KV, f"{used:.0%} of KV memory held, limit {limit:.0%}")


# --- down -----------------------------------------------------------------------------------------


def _spare(desk: Desk, current: int) -> int:
    """How many could leave so that the others stay within the hold band, which widens
    with the noise of the load. None while any that has a machine starts, while anybody waits,
    or while a promise is missed for want of workers."""
    scaling, ready = desk.rules.scaling, desk.pool.ready
    band = scaling.hold_band
    load = max(desk.level, desk.ahead)
    kept = max(desk.staffed(load) / band, desk.staffed(load + _SWING * desk.noise))
    if desk.role is Role.DECODE:
        kept = max(kept, ready * _value(desk.pool.kv_used) / (scaling.kv_utilization * band))
    missed = any(asking.workers > ready for asking in _latency(desk))
    late = _value(desk.pool.backlog_s) > desk.rules.slo.ttft_s / 4
    unplaced = desk.pool.unplaced
    if desk.pool.starting > unplaced or ready + unplaced != current or missed or late:
        return 0
    least = max(desk.rules.bounds(desk.role)[0], 1)
    return max(current - max(math.ceil(kept - _TINY), least), 0)


def _need(desk: Desk, current: int, wanted: int, spare: int, why: Asking) -> Need:
    return Need(desk.role, current, wanted, desk.level, spare, why.reason, why.text)


def _value(signal: Signal | None) -> float:
    return signal.value if signal else 0.0
