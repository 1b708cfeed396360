"""A plan in plain words."""

from __future__ import annotations

from simulator.planning.planner import Found, Plan
from simulator.planning.terms import Kind


def verdict(plan: Plan) -> list[str]:
    """What to buy, whether to disaggregate, and where that turns; one sentence or two per item."""
    return [_what_to_buy(plan), *_doubts(plan), _pays(plan), _turns(plan)]


def break_even(plan: Plan) -> float | None:
    """The load in requests/s from which two pools are cheaper at each load tried; None = never.

    Loads that neither way serves within the GPUs allowed say nothing.
    """
    cheaper_from = None
    for point in plan.points:
        together = point.gpus(Kind.AGGREGATED)
        apart = _least(point.gpus(Kind.DISAGGREGATED), point.gpus(Kind.MIXED))
        if together is None and apart is None:
            continue
        cheaper = apart is not None and (together is None or apart < together)
        if not cheaper:
            cheaper_from = None
        elif cheaper_from is None:
            cheaper_from = point.per_s
    return cheaper_from if _both_ways(plan) else None


def _both_ways(plan: Plan) -> bool:
    """Whether workers that do both, and two pools, were asked."""
    kinds = set(plan.question.kinds)
    return Kind.AGGREGATED in kinds and bool(kinds - {Kind.AGGREGATED})


def _what_to_buy(plan: Plan) -> str:
    best, promises = plan.best, plan.question.promises
    if best is not None:
        setup = best.trial.setup
        return (
            f"Cheapest: {setup} ({_gpus(setup.gpus)}, {setup.hardware.name}): "
            f"{shares(best)} of requests get both promises ({promises.share:.0%} wanted)."
        )
    nearest = max(plan.found, key=lambda f: f.sure.mean, default=None)
    said = f"Not within {_gpus(plan.question.gpus_max)}: no cluster keeps the promises."
    if nearest is None:
        return said
    trial = nearest.trial
    return (
        f"{said} The nearest, {trial.setup}, keeps them for {shares(nearest)} "
        f"({promises.share:.0%} wanted): at that percentile TTFT is {trial.ttft_s:.2f} s "
        f"({promises.ttft_s:g} promised) and TPOT {trial.tpot_s * 1000:.1f} ms "
        f"({promises.tpot_s * 1000:g} promised)."
    )


def _doubts(plan: Plan) -> list[str]:
    said, best, share = [], plan.best, plan.question.promises.share
    if best is not None and best.sure.low < share:
        said.append(
            f"This is near the edge: the interval begins at {best.sure.low:.1%}, below "
            f"{share:.0%}. One worker more is the safe choice."
        )
    if plan.hopeless > 0.001:
        said.append(
            f"{plan.hopeless:.1%} of the prompts take longer than the promised TTFT alone on an "
            "idle engine; only a cached prefix or faster engines can help them."
        )
    return said


def _pays(plan: Plan) -> str:
    together, apart = plan.of(Kind.AGGREGATED), _best_apart(plan)
    if together is None or apart is None:
        return "Whether disaggregation pays was not asked."
    if not (together.keeps or apart.keeps):
        return "Disaggregation makes no difference here: neither way keeps the promises."
    if not together.keeps:
        return "Disaggregate: workers that do both do not keep the promises at any size tried."
    if not apart.keeps:
        return "Do not disaggregate: two pools do not keep the promises at any size tried."
    cost, other = apart.trial.setup.gpus, together.trial.setup.gpus
    if cost < other:
        return (
            f"Disaggregation pays here: {_gpus(cost)} do the work of {other} aggregated ones "
            f"({1 - cost / other:.0%} fewer)."
        )
    worth = f"{_gpus(cost)} instead of {other}" if cost > other else f"{_gpus(cost)} either way"
    return (
        f"Disaggregation does not pay here: {worth}. Aggregated workers are simpler and move no KV."
    )


def _turns(plan: Plan) -> str:
    low, high = plan.points[0].per_s, plan.points[-1].per_s
    if low == high:
        return "Other loads were not asked."
    if not _both_ways(plan):
        return "Break-even: not asked, only one way was."
    load = break_even(plan)
    asked = f"between {low:.2f} and {high:.2f} requests/s"
    if load is None:
        return f"Break-even: {asked} there is no load from which two pools stay cheaper."
    if load == low:
        return f"Break-even: two pools are cheaper at every load tried, {asked}."
    return f"Break-even: two pools are cheaper from {load:.2f} requests/s on ({asked} were tried)."


def _best_apart(plan: Plan) -> Found | None:
    both = (plan.of(Kind.DISAGGREGATED), plan.of(Kind.MIXED))
    return min(
        (f for f in both if f), key=lambda f: (not f.keeps, f.trial.setup.gpus), default=None
    )


def shares(found: Found) -> str:
    """The share that was served well, with its interval."""
    sure = found.sure
    return f"{sure.mean:.1%} ({sure.low:.1%} to {sure.high:.1%})"


def _gpus(count: int) -> str:
    return f"{count} GPU" if count == 1 else f"{count} GPUs"


def _least(*counts: int | None) -> int | None:
    return min((c for c in counts if c is not None), default=None)
