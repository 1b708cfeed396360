"""The Engines dashboard: vLLM's own metrics of the workers."""

from __future__ import annotations

from deploy.dashboards.model import Dashboard, Panel, Query, Row
from deploy.dashboards.promql import (
    CLUSTER,
    ROLE,
    ROLE_CHOICE,
    or_zero,
    quantiles,
    rate,
    sel,
    summed,
)

_JOBS = 'job=~"baton-.*"'
_LINE = "{{worker}} {{role}}"


def _each(name: str) -> Query:
    return Query(f"sum by (worker, role) ({sel(name, *ROLE_CHOICE)})", _LINE)


def _times(title: str, name: str, text: str) -> Panel:
    return Panel(title, "s", text, quantiles(name, *ROLE_CHOICE))


_LOAD = Row(
    "Load",
    (
        Panel(
            "Running",
            "short",
            "Requests in the batch of each engine. At engine.max_running_requests others wait.",
            (_each("vllm:num_requests_running"),),
        ),
        Panel(
            "Waiting",
            "short",
            "Requests that the scheduler has not begun with. On decode: no memory for them.",
            (_each("vllm:num_requests_waiting"),),
        ),
        Panel(
            "KV cache used",
            "percentunit",
            "Of each engine. Near 1 answers are preempted and computed again.",
            (_each("vllm:kv_cache_usage_perc"),),
            top=1,
            steps=(0.85, 0.95),
        ),
        Panel(
            "Prompt tokens",
            "short",
            "Per second, by where they came from: computed here, cached here, or handed over by "
            "a prefill worker. local_compute on decode: prompts are not disaggregated.",
            (
                Query(
                    summed("vllm:prompt_tokens_by_source_total", "role, source", *ROLE_CHOICE),
                    "{{role}} {{source}}",
                ),
            ),
            width=12,
            stack=True,
        ),
        Panel(
            "Generated tokens",
            "short",
            "Per second and worker. Prefill workers generate one token for each prompt, which "
            "nobody reads.",
            (Query(summed("vllm:generation_tokens_total", "worker, role", *ROLE_CHOICE), _LINE),),
            width=12,
            stack=True,
        ),
    ),
)
_TIMES = Row(
    "Where an engine's time goes",
    (
        _times(
            "Waiting in the engine",
            "vllm:request_queue_time_seconds",
            "From arriving until scheduled. Growing on prefill: more prefill workers.",
        ),
        _times(
            "Computing prompts",
            "vllm:request_prefill_time_seconds",
            "From scheduled to the first token; on decode workers the wait for KV is in it.",
        ),
        _times(
            "Between tokens",
            "vllm:inter_token_latency_seconds",
            "As the engine sees it, without the way to the client. p99 far above p50: prompts "
            "are computed between decode steps.",
        ),
        _times(
            "First token of a leg",
            "vllm:time_to_first_token_seconds",
            "From sending a leg to the engine to its first token.",
        ),
        _times(
            "Generating",
            "vllm:request_decode_time_seconds",
            "From the first to the last token.",
        ),
        _times(
            "Whole leg",
            "vllm:e2e_request_latency_seconds",
            "From sending a leg to the engine to its end.",
        ),
    ),
)
_HEALTH = Row(
    "Health",
    (
        Panel(
            "Legs that ended, by how",
            "reqps",
            "stop and length are good; error: read that worker's log. Legs that the router aborts, "
            "for clients that left, are not among them.",
            (
                Query(
                    or_zero(
                        summed("vllm:request_success_total", "role, finished_reason", *ROLE_CHOICE)
                    ),
                    "{{role}} {{finished_reason}}",
                ),
            ),
            stack=True,
        ),
        Panel(
            "Preemptions",
            "short",
            "Requests thrown out of a full KV cache, to be computed again. Any for long: too "
            "little memory for so many requests.",
            (Query(summed("vllm:num_preemptions_total", "worker, role", *ROLE_CHOICE), _LINE),),
        ),
        Panel(
            "Answering Prometheus",
            "short",
            "1 = scraped. 0: the process hangs or its port is not reachable.",
            (Query(f"min by (job, instance) ({sel('up', _JOBS)})", "{{job}} {{instance}}"),),
            top=1,
        ),
        Panel(
            "CPU of a worker's process",
            "short",
            "Cores that the process before the engine uses; the engine has its own process. "
            "Near 1: it is what limits this worker.",
            (Query(rate("process_cpu_seconds_total", 'job="baton-worker"'), "{{worker}}"),),
        ),
        Panel(
            "CPU of a router",
            "short",
            "Cores. Near 1: add routers (router.routers).",
            (Query(rate("process_cpu_seconds_total", 'job="baton-router"'), "{{router}}"),),
        ),
        Panel(
            "Memory",
            "bytes",
            "Resident memory of routers and of the processes before engines. Growing without "
            "end is a leak: report it.",
            (
                Query(
                    sel("process_resident_memory_bytes", _JOBS),
                    "{{job}} {{worker}}{{router}}",
                ),
            ),
        ),
    ),
)

ENGINES = Dashboard(
    "baton-engines",
    "Baton / Engines",
    "What do the engines do: load, where their time goes, and are they well?",
    (_LOAD, _TIMES, _HEALTH),
    (CLUSTER, ROLE),
)
