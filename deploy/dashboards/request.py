"""The Request dashboard."""

from __future__ import annotations

from deploy.dashboards.model import Dashboard, Panel, Query, Row
from deploy.dashboards.promql import (
    CLASS,
    CLUSTER,
    MODEL,
    SLO_CHOICE,
    mean,
    or_zero,
    quantile,
    quantiles,
    sel,
    summed,
)

_TTFT = "baton_time_to_first_token_seconds"
_TPOT = "baton_tpot_seconds"


def _split(title: str, name: str, text: str) -> Panel:
    # Every request is in each part once, so that the parts' means add up to the mean.
    query = Query(mean(name, "part"), "{{part}}")
    return Panel(title, "s", text, (query,), width=12, stack=True)


_FIRST = Row(
    "Time to first token",
    (
        _split(
            "Mean TTFT by part",
            "baton_ttft_part_seconds",
            "The parts of a request's way to its first token; together they are the mean TTFT. "
            "The widest is to blame. Queues: more workers. exposed_transfer: the KV dashboard. "
            "delivery: the router's CPU or slow clients.",
        ),
        Panel(
            "TTFT p50, p90, p99",
            "s",
            "From taking a request until its first token is sent. p99 far above p90: bursts or "
            "long prompts wait behind each other; see Routing.",
            quantiles(_TTFT, 'class=~"$class"'),
            width=12,
        ),
        Panel(
            "p90 of each part",
            "s",
            "The slow tenth of each part by itself; these do not add up. Use it to find a part "
            "that is fast on average and slow at times.",
            (Query(quantile(0.9, "baton_ttft_part_seconds", "part"), "{{part}}"),),
            width=24,
        ),
    ),
)
_EACH = Row(
    "Time per output token",
    (
        _split(
            "Mean TPOT by part",
            "baton_tpot_part_seconds",
            "step: the engine computes; too large means too many requests per decode worker. "
            "frame_wait: on the way to the router. write: detokenise and send; the router's CPU.",
        ),
        Panel(
            "TPOT p50, p90, p99",
            "s",
            "Time per token after the first, of whole answers. Rising with decode's running "
            "requests: add decode workers or lower engine.max_running_requests.",
            quantiles(_TPOT),
            width=12,
        ),
    ),
)
_FLOW = Row(
    "Requests",
    (
        Panel(
            "Ended, by outcome",
            "reqps",
            "finished is good; cancelled are clients that left; expired and failed are ours. "
            "`baton story ID` tells the life of one.",
            (Query(or_zero(summed("baton_requests_total", "outcome")), "{{outcome}}"),),
            stack=True,
        ),
        Panel(
            "Refused, by reason",
            "reqps",
            "Not taken. queue_full, worker_full: too little room, add workers. tenant_limit: one "
            "tenant's share. no_worker, draining: workers are missing.",
            (Query(or_zero(summed("baton_refusals_total", "reason")), "{{reason}}"),),
            stack=True,
        ),
        Panel(
            "Inside",
            "short",
            "Requests in all routers, and those of them that wait there for a prefill worker. "
            "Waiting ones that stay: prefill is the limit.",
            (
                Query(f"sum ({sel('baton_inflight_requests')})", "in routers"),
                Query(f"sum ({sel('baton_queued_requests')})", "waiting"),
            ),
        ),
        Panel(
            "Whole request p50, p90, p99",
            "s",
            "From taking a request to its end. Long answers are long; compare with TPOT.",
            quantiles("baton_request_duration_seconds"),
        ),
        Panel(
            "Tokens",
            "short",
            "Prompt tokens in and answer tokens out per second. A jump of prompt tokens without "
            "more requests: prompts got longer, and prefill needs more workers.",
            (
                Query(summed("baton_prompt_tokens_total", "", *SLO_CHOICE), "prompt"),
                Query(summed("baton_output_tokens_total", "", *SLO_CHOICE), "output"),
            ),
        ),
        Panel(
            "Further attempts, by what ended the last",
            "reqps",
            "Requests placed again after a worker or a transfer failed. Some after a restart is "
            "normal; all the time is a sick worker: see Engines.",
            (Query(or_zero(summed("baton_retries_total", "reason")), "{{reason}}"),),
        ),
        Panel(
            "Pause of resumed answers",
            "s",
            "What a client waits when its worker is lost in mid-answer.",
            quantiles("baton_resume_pause_seconds", idle="only an answer whose worker was lost"),
        ),
        Panel(
            "Faults in routers",
            "short",
            "Each is a bug of Baton: the router's log has the traceback.",
            (Query(f"sum (increase({sel('baton_router_faults_total')}[$__range]))", "faults"),),
            kind="stat",
            steps=(1, 2),
        ),
        Panel(
            "Versions",
            "short",
            "Routers by version of Baton and vLLM. More than one row in a rolling restart only.",
            (Query(f"count by (version, vllm_version) ({sel('baton_build_info')})", "routers"),),
            kind="table",
        ),
    ),
)

REQUEST = Dashboard(
    "baton-request",
    "Baton / Request",
    "Where does a request's time go: which part of TTFT and of TPOT is to blame?",
    (_FIRST, _EACH, _FLOW),
    (CLUSTER, MODEL, CLASS),
)
