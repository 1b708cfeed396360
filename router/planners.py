"""The policies that `router.policy` names, and the limits that bind all of them."""

from __future__ import annotations

from baton.settings import Settings
from router.affinity_planner import AffinityPlanner
from router.gate import Gate
from router.metrics import RouterMetrics
from router.plain_planner import PlainPlanner, in_turn
from router.planning import Planner
from router.policy import least_loaded
from router.policy.types import PolicyRules
from router.registry import Registry


def planner_of(
    settings: Settings, registry: Registry, metrics: RouterMetrics, gate: Gate
) -> Planner:
    """The planner that the settings name."""
    rules = rules_of(settings)
    if settings.router.policy == "affinity":
        return AffinityPlanner(registry, settings, rules, metrics, gate)
    plain = least_loaded.choose if settings.router.policy == "least_loaded" else in_turn()
    return PlainPlanner(registry, rules, plain)


def rules_of(settings: Settings) -> PolicyRules:
    """The settings that bind every policy."""
    return PolicyRules(
        disaggregate=settings.router.disaggregate,
        min_disaggregated_tokens=settings.router.min_disaggregated_tokens,
        max_queued_prefill_requests=settings.prefill.max_queued_requests,
        max_queued_decode_requests=settings.decode.max_queued_requests,
        retry_after_s=settings.router.retry_after_s,
    )
