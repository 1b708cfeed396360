"""The scaling law: `decide(view, memory, now, rules)`. Pure; runs every few seconds.

Worst signal wins within each pool (`pools`), the pools are coupled (`together`), and nothing
changes when a measurement is missing or stale. Wanted counts are remembered, so that a lost worker
is replaced, and a decision that was not carried out yet is simply made again.
"""

from __future__ import annotations

from dataclasses import replace

from baton.messages import Role
from cluster.scaling.decision import Decision, Reason, Why
from cluster.scaling.memory import Memory, PoolMemory
from cluster.scaling.pools import Desk, Need, judge, remember
from cluster.scaling.rules import Rules
from cluster.scaling.together import Plan, decode_limits, passed_on, plan
from cluster.scaling.view import PoolSight, ScalingView, Signal

_ROLES = (Role.PREFILL, Role.DECODE)
_MOST = 1e12
"""No measurement is as large: beyond it something is wrong with whoever measured."""
_NEEDED = ("arriving_tokens_per_s", "worker_tokens_per_s", "backlog_s", "kv_used")
"""Without these nobody knows what a pool does. Nobody may have been served: latency may be None."""


def decide(view: ScalingView, memory: Memory, now: float, rules: Rules) -> Decision:
    """How many workers each pool should have.

    `now` is in seconds of a clock that goes on over restarts of the controller; the shape of a day
    needs one that is right about the time of day.
    """
    blind = _blind(view, rules)
    if blind:
        return _held(view, memory, rules, blind)
    busy = _is_busy(view)
    waited_for = busy or memory.busy_s < 0 or _is_coming(view)
    memory = replace(memory, busy_s=now if waited_for else memory.busy_s)
    pools = {r: remember(_pool_memory(memory, r), view.pool(r), now) for r in _ROLES}
    if _is_idle(memory, now, rules):
        return _zero(memory, pools, rules)
    needs: dict[Role, Need] = {}
    blamed = {Role.DECODE: decode_limits(view, rules)}
    blamed[Role.PREFILL] = not blamed[Role.DECODE]
    for role in _ROLES:
        share = passed_on(view, rules, role)
        desk = Desk(role, view.pool(role), view, pools[role], rules, now, share, blamed[role])
        needs[role], pools[role] = judge(desk)
        if busy and not needs[role].wanted:
            needs[role] = _woken(needs[role], rules)
    return _settled(needs, pools, memory, now, rules)


def _settled(
    needs: dict[Role, Need],
    pools: dict[Role, PoolMemory],
    memory: Memory,
    now: float,
    rules: Rules,
) -> Decision:
    prefill, decode = needs[Role.PREFILL], needs[Role.DECODE]
    rested = memory.role_changed_s < 0 or (
        now - memory.role_changed_s >= rules.scaling.role_change_every_s
    )
    made = plan(prefill, decode, rules, may_change=rules.scaling.role_changes and rested)
    changed = made.to_decode + made.to_prefill > 0
    return Decision(
        made.prefill,
        made.decode,
        made.to_decode,
        made.to_prefill,
        (_why(prefill, made.prefill, made), _why(decode, made.decode, made)),
        replace(
            memory,
            prefill=replace(pools[Role.PREFILL], wanted=made.prefill),
            decode=replace(pools[Role.DECODE], wanted=made.decode),
            role_changed_s=now if changed else memory.role_changed_s,
        ),
    )


def _why(need: Need, count: int, made: Plan) -> Why:
    """The reason of what came out, which bounds, budget and the other pool may have changed."""
    name = need.role.value
    left, came = made.to_decode, made.to_prefill
    if need.role is Role.DECODE:
        left, came = came, left
    if left:
        text = f"{name} {count}: {left} go where they are missed"
        return Why(need.role, Reason.ROLE_CHANGE, text)
    if came:
        text = f"{name} {count}: {came} come from the other pool, {need.text}"
        return Why(need.role, Reason.ROLE_CHANGE, text)
    if count < need.wanted:
        text = f"{name} {count}: {need.wanted} wanted, no GPUs for more; {need.text}"
        return Why(need.role, Reason.BUDGET, text)
    return Why(need.role, need.reason, f"{name} {count}: {need.text}")


# --- holding --------------------------------------------------------------------------------------


def _held(view: ScalingView, memory: Memory, rules: Rules, blind: dict[Role, str]) -> Decision:
    """Everything stays, within the bounds."""
    counts, whys = [], []
    for role in _ROLES:
        wanted = _pool_memory(memory, role).wanted
        count = rules.clamp(role, wanted if wanted >= 0 else view.pool(role).provisioned)
        why = blind.get(role, "the other pool's measurements")
        counts.append(count)
        whys.append(Why(role, Reason.BLIND, f"{role.value} {count}: held, {why}"))
    return Decision(counts[0], counts[1], 0, 0, (whys[0], whys[1]), memory)


def _blind(view: ScalingView, rules: Rules) -> dict[Role, str]:
    """What is missing, too old or out of range, by pool."""
    found = {role: _fault(view.pool(role), role, rules) for role in _ROLES}
    sending = view.transfer_backlog_s
    if sending and (wrong := _wrong(sending, rules)):
        found[Role.PREFILL] = f"transfer_backlog_s {wrong}"
    return {role: fault for role, fault in found.items() if fault}


def _fault(pool: PoolSight, role: Role, rules: Rules) -> str:
    for name, signal in pool.signals():
        needed = name in _NEEDED and pool.ready > 0 and (name, role) != ("kv_used", Role.PREFILL)
        # What a worker does says nothing while nothing comes, and nobody has measured it then.
        unasked = name == "worker_tokens_per_s" and not _arrivals(pool)
        if signal is None and needed and not unasked:
            return f"{name} is missing"
        if signal is not None and (wrong := _wrong(signal, rules)):
            return f"{name} {wrong}"
    return ""


def _arrivals(pool: PoolSight) -> float:
    signal = pool.arriving_tokens_per_s
    return 0.0 if signal is None else signal.value


def _wrong(signal: Signal, rules: Rules) -> str:
    """Why a measurement cannot be used; empty if it can."""
    stale_s = rules.scaling.stale_after_s
    if not signal.age_s <= stale_s:
        return f"is {signal.age_s:.0f} s old, allowed are {stale_s:.0f}"
    if not 0 <= signal.value < _MOST:
        return f"is {signal.value:g}, which is out of range"
    return ""


# --- to zero and back -----------------------------------------------------------------------------


def _is_busy(view: ScalingView) -> bool:
    pools = [view.pool(role) for role in _ROLES]
    signals = [s for p in pools for s in (p.arriving_tokens_per_s, p.backlog_s, p.kv_used)]
    return view.waiting > 0 or any(s is not None and s.value > 0 for s in signals)


def _is_coming(view: ScalingView) -> bool:
    """Whether nobody could be served yet: who started it asks again once somebody is there."""
    pools = [view.pool(role) for role in _ROLES]
    return any(pool.starting and not pool.ready for pool in pools)


def _is_idle(memory: Memory, now: float, rules: Rules) -> bool:
    after_s = rules.scaling.zero_after_s
    return after_s > 0 and now - memory.busy_s >= after_s


def _zero(memory: Memory, pools: dict[Role, PoolMemory], rules: Rules) -> Decision:
    counts = {role: rules.bounds(role)[0] for role in _ROLES}
    text = f"nothing came for {rules.scaling.zero_after_s:.0f} s"
    whys = [Why(r, Reason.IDLE, f"{r.value} {counts[r]}: {text}") for r in _ROLES]
    prefill, decode = (replace(pools[r], wanted=counts[r], calm_since_s=-1.0) for r in _ROLES)
    memory = replace(memory, prefill=prefill, decode=decode)
    return Decision(counts[Role.PREFILL], counts[Role.DECODE], 0, 0, (whys[0], whys[1]), memory)


def _woken(need: Need, rules: Rules) -> Need:
    count, text = rules.clamp(need.role, 1), "requests wait and nobody is there"
    return replace(need, wanted=count, reason=Reason.WOKEN, text=text)


def _pool_memory(memory: Memory, role: Role) -> PoolMemory:
    return memory.prefill if role is Role.PREFILL else memory.decode
