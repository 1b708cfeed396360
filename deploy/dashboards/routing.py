"""The Routing dashboard."""

from __future__ import annotations

from deploy.dashboards.model import Dashboard, Panel, Query, Row
from deploy.dashboards.promql import (
    CLUSTER,
    ROLE,
    ROLE_CHOICE,
    once,
    or_zero,
    part,
    quantiles,
    sel,
    summed,
)


def _by_reason(title: str, name: str, text: str) -> Panel:
    return Panel(
        title, "reqps", text, (Query(or_zero(summed(name, "reason")), "{{reason}}"),), stack=True
    )


def _uneven(name: str) -> str:
    gauge = once(name, "worker, role", *ROLE_CHOICE)
    return f"max by (role) ({gauge}) / (avg by (role) ({gauge}) > 0 or avg by (role) ({gauge}) + 1)"


_CHOICES = Row(
    "Why do requests go where they go?",
    (
        _by_reason(
            "Plans, by reason",
            "baton_choices_total",
            "What the policy decided for a request. Many without disaggregation: prompts are "
            "short or cached; that is as it should be. `baton explain ID` says why for one.",
        ),
        _by_reason(
            "Prefill workers, by reason",
            "baton_prefill_choices_total",
            "Affine choices use a cached prefix. Mostly balanced ones with a low hit rate: "
            "prefixes are too many for the caches, or too few requests share any.",
        ),
        _by_reason(
            "Decode workers, by reason",
            "baton_decode_choices_total",
            "Where answers are generated, and why there.",
        ),
    ),
)
_REUSE = Row(
    "Is the cache used, and is the load even?",
    (
        Panel(
            "Prefix hits",
            "percentunit",
            "Share of prompt tokens that an engine found in its prefix cache. A fall after a "
            "restart is normal; a low one that stays means that prompts share little.",
            (
                Query(
                    f"{summed('vllm:prefix_cache_hits_total', 'role', *ROLE_CHOICE)} / "
                    f"{summed('vllm:prefix_cache_queries_total', 'role', *ROLE_CHOICE)}",
                    "{{role}}",
                ),
            ),
            top=1,
        ),
        Panel(
            "Known cached blocks",
            "short",
            "KV blocks of each worker that routers know to be cached. 0 for a worker with load: "
            "its news do not arrive.",
            (Query(once("baton_worker_cached_blocks", "worker"), "{{worker}}"),),
        ),
        Panel(
            "Imbalance of running requests",
            "short",
            "The busiest worker over the mean of its pool: 1 = even. Above 2 for minutes: a hot "
            "prefix holds one worker; the policy should spread it, see the choices.",
            (Query(_uneven("baton_worker_running_requests"), "{{role}}"),),
        ),
        Panel(
            "Predicted queue",
            "s",
            "Prompts before a new one at each worker, in seconds. One far above the others and "
            "affine choices only: the prefix is worth less than the wait.",
            (Query(once("baton_worker_predicted_queue_seconds", "worker"), "{{worker}}"),),
        ),
        Panel(
            "Rebalanced",
            "reqps",
            "Requests sent elsewhere than planned when they came, because a queue changed.",
            (Query(summed("baton_rebalanced_requests_total", ""), "rebalanced"),),
        ),
        Panel(
            "Running and waiting",
            "short",
            "Requests at each worker. Waiting ones at prefill: prompts arrive faster than they "
            "are computed.",
            (
                Query(
                    once("baton_worker_running_requests", "worker", *ROLE_CHOICE), "{{worker}} runs"
                ),
                Query(
                    once("baton_worker_waiting_requests", "worker", *ROLE_CHOICE),
                    "{{worker}} waits",
                ),
            ),
        ),
    ),
)
_KNOWN = Row(
    "Does the router know enough?",
    (
        Panel(
            "Error of predicted prefill ends",
            "s",
            "Predicted time until a prompt is computed against the real one. Above a second: "
            "costs are still being learned, or something else uses the machines.",
            quantiles("baton_prefill_prediction_error_seconds"),
        ),
        Panel(
            "Relative error, by kind of work",
            "percentunit",
            "Of each worker's recent predictions. A worker with a large one is not trusted much "
            "and is asked more often.",
            (
                Query(
                    once("baton_worker_prediction_error_ratio", "worker, work"),
                    "{{worker}} {{work}}",
                ),
            ),
        ),
        Panel(
            "Probes, by answer",
            "short",
            "Workers asked before a request is sent. late or refused ones often: workers are "
            "overloaded or the network is slow.",
            (Query(or_zero(summed("baton_probes_total", "answer")), "{{answer}}"),),
        ),
        Panel(
            "Late probes",
            "percentunit",
            "Share of probes without an answer in time. Each costs its request the wait.",
            (Query(or_zero(part("baton_probes_total", "cluster", 'answer="late"')), "late"),),
            top=1,
            steps=(0.05, 0.2),
        ),
        Panel(
            "Age of what is known",
            "s",
            "Of each worker's cache and load. Above router.view_max_age_s (0.5) a view counts as "
            "unknown and the worker is asked instead.",
            (Query(once("baton_worker_cache_view_age_seconds", "worker"), "{{worker}}"),),
        ),
        Panel(
            "Unusable news",
            "short",
            "News of workers that could not be used. Gaps heal by themselves; more than a few a "
            "minute: links drop frames.",
            (Query(or_zero(summed("baton_worker_news_unusable_total", "kind")), "{{kind}}"),),
        ),
        Panel(
            "Connected",
            "short",
            "1 = the router is connected to the worker (the worst router counts). 0 for a worker "
            "that is alive: network fault.",
            (
                Query(
                    f"min by (worker, role) ({sel('baton_worker_up', *ROLE_CHOICE)})",
                    "{{worker}} {{role}}",
                ),
            ),
            top=1,
        ),
        Panel(
            "Shunned",
            "short",
            "1 = gets nothing new, being silent or lost too often. It is let in again by itself.",
            (Query(once("baton_worker_shunned", "worker", *ROLE_CHOICE), "{{worker}}"),),
            top=1,
        ),
        Panel(
            "Links lost and workers refused",
            "short",
            "Connections that broke, and workers of another configuration. Refused ones outside "
            "a rolling restart: a machine has another model folder or vLLM.",
            (
                Query(or_zero(summed("baton_links_lost_total", "role")), "lost {{role}}"),
                Query(summed("baton_workers_refused_total", ""), "refused"),
            ),
        ),
    ),
)

ROUTING = Dashboard(
    "baton-routing",
    "Baton / Routing",
    "Why do requests go where they go, is the cache used, and is the load even?",
    (_CHOICES, _REUSE, _KNOWN),
    (CLUSTER, ROLE),
)
