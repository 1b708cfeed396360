"""The SLO dashboard."""

from __future__ import annotations

from deploy.dashboards.model import Dashboard, Panel, Query, Row
from deploy.dashboards.promql import CLASS, CLUSTER, MODEL, SLO_CHOICE, once, part, sel, summed

_ERRORS = "baton:slo_errors:ratio_rate"
_BURN = "baton:slo_burn:ratio_rate"
_LATE_TENANTS = part("baton_tenant_slo_requests_total", "tenant", 'met="no"')
_LINE = "{{promise}} {{model}} {{class}}"


def _kept(window: str) -> str:
    return f"1 - {sel(_ERRORS + window, *SLO_CHOICE)}"


def _stat(promise: str, title: str) -> Panel:
    chosen = (*SLO_CHOICE, f'promise="{promise}"')
    return Panel(
        title,
        "percentunit",
        "Share of the requests of the last hour that kept it, by model and class. Below the "
        "objective: open the Request dashboard and see which part of the split grew.",
        (Query(f"1 - {sel(_ERRORS + '1h', *chosen)}", "{{model}} {{class}}"),),
        kind="stat",
        width=6,
        height=5,
        steps=(0.95, 0.9),
        top=1,
    )


_NOW = Row(
    "Are the promises kept?",
    (
        _stat("ttft", "TTFT kept, 1 h"),
        _stat("tpot", "TPOT kept, 1 h"),
        _stat("both", "Both kept, 1 h"),
        Panel(
            "Good tokens, 5 min",
            "percentunit",
            "Share of the tokens of the last minutes that belong to answers within both promises. "
            "Low while most requests are well: the long answers are late.",
            (Query(sel("baton:goodput:ratio_rate5m", *SLO_CHOICE), "{{model}} {{class}}"),),
            kind="stat",
            width=6,
            height=5,
            steps=(0.95, 0.9),
            top=1,
        ),
        Panel(
            "Attainment",
            "percentunit",
            "Share of requests within their promises over 5 minutes. A dip that ends is load; one "
            "that stays is too few workers or a slow part: compare with the Scaling dashboard.",
            (
                Query(_kept("5m"), _LINE),
                Query(
                    once("baton_slo_objective_ratio", "class", *SLO_CHOICE), "objective {{class}}"
                ),
            ),
            width=12,
            top=1,
        ),
        Panel(
            "Goodput",
            "short",
            "Tokens per second of answers that kept both promises, and of all answers. The gap is "
            "work that came too late: refuse earlier (admission) or add workers.",
            (
                Query(
                    summed("baton_goodput_tokens_total", "model, class", *SLO_CHOICE),
                    "good {{class}}",
                ),
                Query(
                    summed("baton_output_tokens_total", "model, class", *SLO_CHOICE),
                    "all {{class}}",
                ),
            ),
            width=12,
        ),
    ),
)
_BUDGET = Row(
    "How fast does the error budget go?",
    (
        Panel(
            "Burn, last 5 minutes and hour",
            "short",
            "1 = the budget lasts exactly its period. Both lines above 14.4 (less where the "
            "objective is low) page somebody: act now.",
            tuple(Query(sel(_BURN + w, *SLO_CHOICE), f"{w} {_LINE}") for w in ("5m", "1h")),
            width=12,
            steps=(1, 14.4),
        ),
        Panel(
            "Burn, last 30 minutes and 6 hours",
            "short",
            "Both lines above 6 open a ticket: the promise is broken a little all the time. Add "
            "workers, or promise what the pools can do.",
            tuple(Query(sel(_BURN + w, *SLO_CHOICE), f"{w} {_LINE}") for w in ("30m", "6h")),
            width=12,
            steps=(1, 6),
        ),
        Panel(
            "Burn as routers see it",
            "short",
            "The worst router, without Prometheus's rules. One router far above the others has "
            "slow clients or a slow machine.",
            (
                Query(
                    once("baton_error_budget_burn_ratio", "promise, window", *SLO_CHOICE),
                    "{{window}} {{promise}}",
                ),
            ),
            width=12,
        ),
        Panel(
            "Attainment as routers see it",
            "percentunit",
            "The worst router of each class. Differs from the fleet's when load is uneven over "
            "the routers.",
            (
                Query(
                    f"min by (class, promise, window) "
                    f"({sel('baton_slo_attainment_ratio', *SLO_CHOICE)})",
                    "{{class}} {{promise}} {{window}}",
                ),
            ),
            width=12,
            top=1,
        ),
    ),
)
_WHO = Row(
    "For whom not?",
    (
        Panel(
            "Worst tenants",
            "percentunit",
            "Share of a tenant's requests that missed a promise, the ten worst. One tenant alone: "
            "its prompts or its bursts; look at its limits in admission.",
            (Query(f"topk(10, {_LATE_TENANTS})", "{{tenant}}"),),
            kind="bargauge",
            width=12,
            steps=(0.05, 0.1),
            top=1,
        ),
        Panel(
            "Requests of tenants",
            "reqps",
            "Let in or refused, the ten largest. A tenant that is refused for tenant_limit is "
            "over its share; raise its weight or let it wait.",
            (
                Query(
                    f"topk(10, {summed('baton_tenant_requests_total', 'tenant, outcome')})",
                    "{{tenant}} {{outcome}}",
                ),
            ),
            width=12,
        ),
        Panel(
            "Promises",
            "s",
            "What is promised, by class, for a prompt of no length. Longer prompts get more, as "
            "set by slo.ttft_s_per_1000_tokens.",
            (
                Query(
                    once("baton_slo_promise_seconds", "model, class, promise", *SLO_CHOICE), _LINE
                ),
            ),
            width=12,
        ),
        Panel(
            "Requests judged",
            "reqps",
            "Answers that count for the objectives, by whether they kept both. With few of them "
            "a single late one moves every line above.",
            (
                Query(
                    summed("baton_slo_requests_total", "class, met", *SLO_CHOICE, 'promise="both"'),
                    "{{class}} met: {{met}}",
                ),
            ),
            width=12,
            stack=True,
        ),
    ),
)

SLO = Dashboard(
    "baton-slo",
    "Baton / SLO",
    "Are the promises kept, how fast does the error budget go, and for whom not?",
    (_NOW, _BUDGET, _WHO),
    (CLUSTER, MODEL, CLASS),
)
