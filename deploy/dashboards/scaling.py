"""The Scaling dashboard."""

from __future__ import annotations

from deploy.dashboards.model import Annotation, Dashboard, Panel, Query, Row
from deploy.dashboards.promql import CLUSTER, ROLE, ROLE_CHOICE, once, or_zero, sel


def _gauge(name: str, legend: str) -> Query:
    return Query(once(name, "role", *ROLE_CHOICE), legend)


def _state(state: str) -> Query:
    chosen = (*ROLE_CHOICE, f'state="{state}"')
    return Query(once("baton_scaler_workers", "role", *chosen), f"{{{{role}}}} {state}")


def _pool(role: str) -> Panel:
    def of(name: str, *more: str) -> str:
        return once(name, "", f'role="{role}"', *more)

    return Panel(
        f"{role.capitalize()} workers",
        "short",
        "Wanted and there. Ready below wanted for longer than a start takes: `baton status` says "
        "what they wait for. Wanted at the maximum: raise scaling's maximum.",
        (
            Query(of("baton_scaler_wanted_workers"), "wanted"),
            *(
                Query(of("baton_scaler_workers", f'state="{state}"'), state)
                for state in ("ready", "starting", "draining")
            ),
            Query(of("baton_scaler_min_workers"), "minimum"),
            Query(of("baton_scaler_max_workers"), "maximum"),
        ),
        width=12,
    )


_HOW_MANY = Row("How many workers?", (_pool("prefill"), _pool("decode")))
_WHY = Row(
    "Why so many?",
    (
        Panel(
            "Reason now",
            "short",
            "1 for the reason of each pool's size. budget: more would be wanted than GPUs allow. "
            "blind: a measurement is missing. docs/scaling.md lists all.",
            (
                Query(
                    f"{once('baton_scaler_reason', 'role, reason', *ROLE_CHOICE)} > 0 or "
                    f"label_replace({once('baton_scaler_auto', '')} * 0, "
                    '"reason", "none yet", "", "")',
                    "{{role}} {{reason}}",
                ),
            ),
            kind="table",
        ),
        Panel(
            "Decisions, by reason",
            "short",
            "Of the last minutes. steady should be most of them.",
            (
                Query(
                    "max by (role, reason) (increase("
                    f"{sel('baton_scaler_decisions_total', *ROLE_CHOICE)}[$__range]))",
                    "{{role}} {{reason}}",
                ),
            ),
            kind="bargauge",
        ),
        Panel(
            "Workers added, removed, moved",
            "short",
            "Up and down in turn within minutes: raise scaling.down_after_s or headroom.",
            (
                Query(
                    or_zero(
                        "max by (role, action, reason) (increase("
                        f"{sel('baton_scaler_actions_total', *ROLE_CHOICE)}[$__rate_interval]))"
                    ),
                    "{{role}} {{action}} {{reason}}",
                ),
            ),
        ),
        Panel(
            "Arriving work",
            "short",
            "Tokens per second that come, over what one worker does within the promises: workers "
            "kept busy. Above ready: the pool is overloaded.",
            (
                Query(
                    "sum by (role) "
                    f"({sel('baton_pool_arriving_tokens_per_second', *ROLE_CHOICE)}) / "
                    f"(max by (role) ({sel('baton_pool_worker_tokens_per_second', *ROLE_CHOICE)}) "
                    f"> 0) or 0 * {once('baton_pool_arriving_tokens_per_second', 'role')}",
                    "{{role}}",
                ),
            ),
        ),
        Panel(
            "Work that waits",
            "s",
            "In routers, in seconds of one worker. It asks for workers before TTFT is missed.",
            (
                Query(
                    f"sum by (role) ({sel('baton_pool_waiting_seconds', *ROLE_CHOICE)})",
                    "{{role}}",
                ),
            ),
        ),
        Panel(
            "One worker's capacity",
            "short",
            "Tokens per second within the promises, as learned; 0 = not known yet. A fall: "
            "prompts or answers changed, or machines got slower.",
            (_gauge("baton_pool_worker_tokens_per_second", "{{role}}"),),
        ),
    ),
)
_TRUST = Row(
    "Can the scaler be trusted now?",
    (
        Panel(
            "Holding for missing data",
            "short",
            "1 = a pool keeps its size because a measurement is missing. `baton status` says "
            "which; set counts by hand with `baton scale` meanwhile.",
            (_gauge("baton_scaler_holding", "{{role}}"),),
            top=1,
        ),
        Panel(
            "Automatic",
            "short",
            "1 = the law decides; 0 = an operator set the counts. `baton scale --auto` hands over.",
            (Query(once("baton_scaler_auto", ""), "auto"),),
            kind="stat",
            width=4,
        ),
        Panel(
            "Since the last decision",
            "s",
            "With the law in charge never far above scaling.interval_s.",
            (Query(f"min ({sel('baton_scaler_quiet_seconds')})", "quiet"),),
            width=6,
        ),
        Panel(
            "Silence of the controller",
            "s",
            "Since a router heard of it; the most forgotten router. Above 15 s it is gone: start "
            "`baton serve` again.",
            (Query(once("baton_controller_silence_seconds", ""), "silence"),),
            width=6,
            steps=(5, 15),
        ),
        Panel(
            "GPUs",
            "short",
            "Of the wanted workers, and what scaling.gpu_budget allows (0 = any). At the budget "
            "the pools trade workers instead of growing.",
            (
                _gauge("baton_scaler_wanted_gpus", "{{role}}"),
                Query(once("baton_scaler_budget_gpus", ""), "budget"),
            ),
            width=12,
        ),
        Panel(
            "Workers by state",
            "short",
            "All states of the cluster's table. gone that stays: a worker that cannot start.",
            tuple(_state(one) for one in ("ready", "starting", "draining", "gone")),
            width=12,
            stack=True,
        ),
    ),
)

SCALING = Dashboard(
    "baton-scaling",
    "Baton / Scaling",
    "How many workers are wanted and there, why, and can the scaler be trusted now?",
    (_HOW_MANY, _WHY, _TRUST),
    (CLUSTER, ROLE),
    (
        Annotation(
            "Scaled",
            or_zero(
                "max by (role, action, reason) "
                f"(changes({sel('baton_scaler_actions_total')}[$__interval]))"
            ),
            "{{role}}: {{action}} ({{reason}})",
        ),
        Annotation(
            "Holds",
            once("baton_scaler_holding", "role"),
            "{{role}} keeps its size: a measurement is missing",
            "orange",
        ),
    ),
)
