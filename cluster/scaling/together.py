"""Weighs the two pools against each other: whose fault it is, who changes roles, who gets GPUs."""

from __future__ import annotations

from dataclasses import dataclass

from baton.messages import Role
from cluster.scaling.pools import Need
from cluster.scaling.rules import Rules
from cluster.scaling.view import ScalingView

_GAIN = 0.9
"""Workers trade places within the budget only if the busier pool becomes so much less busy."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Wanted counts with role changes already in them."""

    prefill: int
    decode: int
    to_decode: int = 0
    to_prefill: int = 0


def decode_limits(view: ScalingView, rules: Rules) -> bool:
    """Whether first tokens are late for want of decode: prefill is not added for them then.

    Decode is the limit when its memory is full, or when more work waits for it than for prefill.
    """
    if rules.scaling.prefill_max_workers == 0:
        return True
    kv, prefill, decode = view.decode.kv_used, view.prefill.backlog_s, view.decode.backlog_s
    full = kv is not None and kv.value >= rules.scaling.kv_utilization
    return full or (decode.value if decode else 0.0) > (prefill.value if prefill else 0.0)


def passed_on(view: ScalingView, rules: Rules, role: Role) -> float:
    """Share of a pool's arriving work that the other pool can pass on with all workers it may have.

    More than that needs no workers, however much arrives.
    """
    other = Role.DECODE if role is Role.PREFILL else Role.PREFILL
    most, load = rules.bounds(other)[1], view.pool(other).load
    return min(most / load, 1.0) if load > 0 and most > 0 else 1.0


def plan(prefill: Need, decode: Need, rules: Rules, *, may_change: bool) -> Plan:
    """What both needs come to within the budget, with role changes before new machines."""
    wanted = _within_budget(prefill, decode, rules, may_change=may_change)
    if not may_change:
        return Plan(*wanted)
    for giver, taker in ((prefill, decode), (decode, prefill)):
        given = _given(giver, taker, wanted)
        if given:
            return _changed(giver, given, wanted)
    return Plan(*wanted)


def _given(giver: Need, taker: Need, wanted: tuple[int, int]) -> int:
    """How many workers change from one pool to the other, which asks for them.

    A pool gives what the hold band lets it spare, or what the budget takes from it anyway.
    """
    left, asked = (wanted[_place(need)] for need in (giver, taker))
    taken = giver.current - left
    can = max(giver.spare if giver.wanted <= giver.current else 0, taken)
    return max(min(asked - taker.current, can), 0)


def _changed(giver: Need, given: int, wanted: tuple[int, int]) -> Plan:
    counts = list(wanted)
    counts[_place(giver)] = min(counts[_place(giver)], giver.current - given)
    if giver.role is Role.PREFILL:
        return Plan(counts[0], counts[1], to_decode=given)
    return Plan(counts[0], counts[1], to_prefill=given)


def _within_budget(
    prefill: Need, decode: Need, rules: Rules, *, may_change: bool
) -> tuple[int, int]:
    """Takes from whoever would stay less busy, until there are GPUs for all."""
    needs = (prefill, decode)
    now = [need.current for need in needs]
    counts = [need.wanted for need in needs]
    loads = [need.load for need in needs]
    kept = [min(need.current, need.wanted) for need in needs]
    least = [rules.bounds(need.role)[0] for need in needs]
    while not rules.within_budget(*counts):
        able = [i for i in (0, 1) if counts[i] > (least if may_change else kept)[i]]
        able = able or [i for i in (0, 1) if counts[i] > least[i]]
        if not able:
            break
        counts[min(able, key=lambda i: _busy(loads[i], counts[i] - 1))] -= 1
    traded = counts[0] < kept[0] or counts[1] < kept[1]
    gain = _busiest(loads, counts) <= _GAIN * _busiest(loads, now)
    if traded and not gain and rules.within_budget(*now):
        return now[0], now[1]
    return counts[0], counts[1]


def _busiest(loads: list[float], counts: list[int]) -> float:
    return max(map(_busy, loads, counts))


def _busy(load: float, workers: int) -> float:
    return load / workers if workers else load * 1e9


def _place(need: Need) -> int:
    return 0 if need.role is Role.PREFILL else 1
