"""The KV dashboard."""

from __future__ import annotations

from deploy.dashboards.model import Dashboard, Panel, Query, Row
from deploy.dashboards.promql import (
    CLUSTER,
    QUANTILES,
    ROLE,
    ROLE_CHOICE,
    once,
    once_rate,
    or_zero,
    rate,
    sel,
)

_WORKER = "worker, role"


def _seconds(name: str) -> tuple[Query, ...]:
    # Every router reports the same workers: one of them is enough.
    buckets = f"sum by (le) ({once_rate(f'{name}_bucket', 'le, worker', *ROLE_CHOICE)})"
    return tuple(Query(f"histogram_quantile({q:g}, {buckets})", f"p{q * 100:g}") for q in QUANTILES)


def _of_bytes(name: str) -> str:
    return once_rate(name, "worker", *ROLE_CHOICE)


_SPEED = Row(
    "How fast does KV move?",
    (
        Panel(
            "KV written",
            "GBs",
            "10^9 bytes a second that each worker writes to peers. Flat while TTFT grows: the "
            "transport is full, or prompts are computed on decode; see Routing.",
            (Query(f"{_of_bytes('baton_kv_transfer_bytes_total')} / 1e9", "{{worker}}"),),
        ),
        Panel(
            "Self-test, by pair",
            "GBs",
            "What the pair measured when it met, over the transport that UCX chose: shared "
            "memory, RDMA or TCP. A pair far below its like uses another one: `baton transport "
            "test` there.",
            (
                Query(
                    f"min by (worker, peer) ({sel('baton_kv_transfer_rate_gb_per_second')})",
                    "{{worker}} to {{peer}}",
                ),
                Query(once("baton_kv_transfer_floor_gb_per_second", ""), "floor"),
            ),
        ),
        Panel(
            "Bytes of a write",
            "bytes",
            "Small writes cost more than they carry. Below 64 KiB: engine.block_size_tokens is "
            "small, or kv_transfer.stream is by layer where chunks would do.",
            (
                Query(
                    f"{_of_bytes('baton_kv_transfer_bytes_total')} / "
                    f"({_of_bytes('baton_kv_transfer_writes_total')} > 0)"
                    f" or 0 * {_of_bytes('baton_kv_transfer_writes_total')}",
                    "{{worker}}",
                ),
            ),
        ),
        Panel(
            "Exposed transfer p50, p90, p99",
            "s",
            "From the end of a prompt's computation until its last write was done: what handing "
            "over adds to TTFT. More than a tenth of TTFT: a slow pair, see the self-test.",
            _seconds("baton_kv_transfer_exposed_seconds"),
            width=12,
        ),
        Panel(
            "Whole transfer p50, p90, p99",
            "s",
            "From the first write of a prompt's KV until its last was done; most of it is hidden "
            "behind the computation.",
            _seconds("baton_kv_transfer_seconds"),
            width=12,
        ),
        Panel(
            "Still to be sent",
            "s",
            "Seconds until the writes under way are done, at the pace of late. More than half of "
            "the promised TTFT: the scaler adds senders, since the links are the limit.",
            (
                Query(
                    once("baton_kv_transfer_backlog_seconds", _WORKER, *ROLE_CHOICE), "{{worker}}"
                ),
            ),
            width=12,
        ),
    ),
)
_SAFE = Row(
    "Is every block accounted for?",
    (
        Panel(
            "Fenced blocks",
            "short",
            "Wait for the proof that no write is left; gone within seconds after a fault. If "
            "they stay, a peer stalls: `baton status` names it.",
            (Query(once("baton_kv_fenced_blocks", _WORKER, *ROLE_CHOICE), "{{worker}}"),),
        ),
        Panel(
            "Quarantined share",
            "percentunit",
            "Fenced blocks that asking for the peer's death did not free, of all of a worker's. "
            "At the limit the worker is restarted; bring the dead peer's host back.",
            (
                Query(
                    f"{once('baton_kv_quarantined_blocks', _WORKER, *ROLE_CHOICE)} / "
                    f"{once('baton_worker_kv_blocks', _WORKER, *ROLE_CHOICE)}",
                    "{{worker}}",
                ),
                Query(once("baton_kv_quarantine_max_ratio", ""), "limit"),
            ),
        ),
        Panel(
            "Handed over",
            "reqps",
            "Prompts whose KV arrived whole at each decode worker.",
            (Query(_of_bytes("baton_kv_transfer_received_total"), "{{worker}}"),),
        ),
        Panel(
            "Ended without whole KV, by reason",
            "reqps",
            "Aborts are clients that left. Anything else costs a recomputation: look for the "
            "worker and its log.",
            (
                Query(
                    or_zero(
                        "sum by (reason) (max by (worker, reason) "
                        f"({rate('baton_kv_transfer_ended_total', *ROLE_CHOICE)}))"
                    ),
                    "{{reason}}",
                ),
            ),
            stack=True,
        ),
        Panel(
            "Open tickets, by state",
            "short",
            "Handoffs under way at both ends. A state that only grows is a leak: report it with "
            "`baton status --json`.",
            (
                Query(
                    or_zero(
                        "sum by (end, state) (max by (worker, end, state) "
                        f"({sel('baton_kv_tickets', *ROLE_CHOICE)}))"
                    ),
                    "{{end}} {{state}}",
                ),
            ),
        ),
        Panel(
            "Late notices",
            "short",
            "Messages about ended tickets, dropped. They follow aborts; many without aborts: "
            "kv_transfer.write_deadline_s is too short.",
            (Query(_of_bytes("baton_kv_transfer_late_notices_total"), "{{worker}}"),),
        ),
    ),
)
_MEMORY = Row(
    "Is there room?",
    (
        Panel(
            "KV memory used",
            "percentunit",
            "Of each worker. Decode above 0.9: answers are preempted; add decode workers or "
            "memory (engine.kv_cache_gib, engine.gpu_memory_utilization).",
            (
                Query(
                    once("baton_worker_kv_used_ratio", _WORKER, *ROLE_CHOICE), "{{worker}} {{role}}"
                ),
            ),
            width=12,
            top=1,
            steps=(0.85, 0.95),
        ),
        Panel(
            "KV blocks",
            "short",
            "What each worker has. Workers of one pool should have the same.",
            (Query(once("baton_worker_kv_blocks", _WORKER, *ROLE_CHOICE), "{{worker}} {{role}}"),),
            width=12,
        ),
    ),
)

KV = Dashboard(
    "baton-kv",
    "Baton / KV",
    "How fast does KV move, what does handing it over cost, and is every block accounted for?",
    (_SPEED, _SAFE, _MEMORY),
    (CLUSTER, ROLE),
)
