"""Recording and alert rules for Prometheus. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import yaml

WINDOWS = ("5m", "30m", "1h", "6h")
_KEY = "cluster, model, class"
_SLO = f"{_KEY}, promise"
_PER_KEY = f"on ({_KEY}) group_left ()"
_PROMISES = '{promise=~"ttft|tpot"}'
_FAST, _SLOW = 14.4, 6.0


@dataclass(frozen=True, slots=True)
class Recording:
    """A series that Prometheus computes and keeps."""

    record: str
    expr: str


@dataclass(frozen=True, slots=True)
class Condition:
    """A comparison. `op` may say which labels have to agree."""

    value: str
    op: str
    bound: str

    @property
    def expr(self) -> str:
        """As PromQL."""
        return f"{self.value} {self.op} {self.bound}"


@dataclass(frozen=True, slots=True)
class Alert:
    """Fires when all conditions have held for `since`."""

    name: str
    conditions: tuple[Condition, ...]
    since: str
    severity: Literal["page", "ticket"]
    summary: str
    action: str
    """What an operator does about it."""
    dashboard: str
    """The uid of the page to look at."""

    @property
    def expr(self) -> str:
        """As PromQL."""
        return "\nand ".join(one.expr for one in self.conditions)


def _recordings() -> tuple[Recording, ...]:
    budget = f"1 - max by ({_KEY}) (baton_slo_objective_ratio)"
    found = [Recording("baton:slo_budget:ratio", budget)]
    for window in WINDOWS:
        errors = f"baton:slo_errors:ratio_rate{window}"
        burn = f"{errors} / {_PER_KEY} baton:slo_budget:ratio"
        found.append(Recording(errors, _missed(window)))
        found.append(Recording(f"baton:slo_burn:ratio_rate{window}", burn))
    goodput = "sum by (cluster, model, class) (rate(baton_goodput_tokens_total[5m]))"
    output = "sum by (cluster, model, class) (rate(baton_output_tokens_total[5m]))"
    return (*found, Recording("baton:goodput:ratio_rate5m", f"{goodput} / {output}"))


def _missed(window: str) -> str:
    every = f"sum by ({_SLO}) (rate(baton_slo_requests_total[{window}]))"
    late = f'sum by ({_SLO}) (rate(baton_slo_requests_total{{met="no"}}[{window}]))'
    # As long as nobody has missed it there is no series that says so.
    return f"({late} or 0 * {every}) / {every}"


def _burns(window: str, most: float, share: float) -> Condition:
    # A budget of a tenth cannot burn faster than tenfold, however bad it is.
    bound = f"clamp_max({share:g} / baton:slo_budget:ratio, {most:g})"
    return Condition(f"baton:slo_burn:ratio_rate{window}{_PROMISES}", f"> {_PER_KEY}", bound)


def _by_worker(name: str) -> str:
    return f"max by (cluster, worker, role) ({name})"


def _held(name: str) -> Condition:
    share = f"{_by_worker(name)} / {_by_worker('baton_worker_kv_blocks')}"
    half = "0.5 * max by (cluster) (baton_kv_quarantine_max_ratio)"
    return Condition(share, "> on (cluster) group_left ()", half)


_ALERTS = (
    Alert(
        "BatonSloBurnsFast",
        (_burns("5m", _FAST, 0.8), _burns("1h", _FAST, 0.8)),
        "0m",
        "page",
        "{{ $labels.promise }} of class {{ $labels.class }} is missed so often that the error "
        "budget goes within days ({{ $value | humanize }} times too fast)",
        "Open the Request dashboard: the widest part of the split is to blame. Queues: add "
        "workers (`baton scale`). Exposed transfer: look at the KV dashboard.",
        "baton-slo",
    ),
    Alert(
        "BatonSloBurnsSlow",
        (_burns("30m", _SLOW, 0.5), _burns("6h", _SLOW, 0.5)),
        "0m",
        "ticket",
        "{{ $labels.promise }} of class {{ $labels.class }} has been missed too often for hours "
        "({{ $value | humanize }} times too fast)",
        "Not urgent, but the budget will not last. Compare the promise with what the pools can "
        "do; raise scaling's maxima or promise less.",
        "baton-slo",
    ),
    Alert(
        "BatonTransportBelowFloor",
        (
            Condition(
                "min by (cluster, worker, peer) (baton_kv_transfer_rate_gb_per_second)",
                "< on (cluster) group_left ()",
                "max by (cluster) (baton_kv_transfer_floor_gb_per_second)",
            ),
        ),
        "2m",
        "ticket",
        "KV goes from {{ $labels.worker }} to {{ $labels.peer }} at {{ $value | humanize }} GB/s, "
        "below kv_transfer.min_gb_per_second",
        "Run `baton transport test` on that machine: it names the transport that UCX chose and "
        "the one that is missing.",
        "baton-kv",
    ),
    Alert(
        "BatonScalerHolds",
        (Condition("max by (cluster, role) (baton_scaler_holding)", ">", "0"),),
        "2m",
        "ticket",
        "The {{ $labels.role }} pool keeps its size: a measurement is missing",
        "`baton status` says which. A router that does not answer, or a worker that reports "
        "nothing, is the usual cause; `baton scale` sets counts by hand meanwhile.",
        "baton-scaling",
    ),
    Alert(
        "BatonControllerSilent",
        (Condition("min by (cluster) (baton_controller_silence_seconds)", ">", "15"),),
        "1m",
        "page",
        "No router has heard of the controller for {{ $value | humanizeDuration }}",
        "Requests are served, but nobody restarts or scales anything. Start `baton serve` again: "
        "on a joined Ray it goes on where the last one was.",
        "baton-scaling",
    ),
    Alert(
        "BatonBlocksFenced",
        (_held("baton_kv_fenced_blocks"),),
        "2m",
        "ticket",
        "{{ $value | humanizePercentage }} of the KV blocks of {{ $labels.worker }} wait for the "
        "proof that no write is left",
        "A prefill worker ended or stalled while it wrote. `baton status` names whom it accuses; "
        "if that machine cannot be reached, restart this worker with `baton drain`.",
        "baton-kv",
    ),
    Alert(
        "BatonBlocksQuarantined",
        (_held("baton_kv_quarantined_blocks"),),
        "0m",
        "page",
        "{{ $value | humanizePercentage }} of the KV blocks of {{ $labels.worker }} are "
        "quarantined; above kv_transfer.quarantine_max_share it is restarted",
        "The host of a dead peer cannot be reached, so nothing proves that its writes have ended. "
        "Bring that host back or power it off; `baton drain` restarts the worker.",
        "baton-kv",
    ),
    Alert(
        "BatonWorkerDown",
        (
            Condition(
                'max by (cluster, role) (baton_scaler_workers{state="ready"})',
                "< on (cluster, role)",
                "max by (cluster, role) (baton_scaler_wanted_workers)",
            ),
        ),
        "10m",
        "page",
        "The {{ $labels.role }} pool has {{ $value }} ready workers, fewer than are wanted",
        "`baton status` says what each one is doing or why it ended; its log is in the run "
        "folder. Not enough machines: the Ray cluster is full.",
        "baton-scaling",
    ),
    Alert(
        "BatonWorkerUnlinked",
        (Condition("min by (cluster, worker, role) (baton_worker_up)", "<", "1"),),
        "1m",
        "ticket",
        "A router has no connection to {{ $labels.worker }}",
        "It is alive to the controller, not to this router: look for a network fault between "
        "their machines, or a stuck process.",
        "baton-routing",
    ),
    Alert(
        "BatonRoutersRefuse",
        (
            Condition(
                # Where all are refused there may be no series of requests.
                "sum by (cluster) (rate(baton_refusals_total[5m])) / (sum by (cluster) "
                "(rate(baton_refusals_total[5m])) + (sum by (cluster) "
                "(rate(baton_requests_total[5m])) or 0 * sum by (cluster) "
                "(rate(baton_refusals_total[5m]))))",
                ">",
                "0.05",
            ),
        ),
        "5m",
        "page",
        "{{ $value | humanizePercentage }} of the requests are refused",
        "The Request dashboard shows the reasons. queue_full or worker_full: too few workers. "
        "tenant_limit: one tenant is over its share. no_worker: workers are down.",
        "baton-request",
    ),
    Alert(
        "BatonRouterFault",
        (Condition("sum by (cluster) (increase(baton_router_faults_total[10m]))", ">", "0"),),
        "0m",
        "ticket",
        "A fault in a router ended a request",
        "This is a bug of Baton. The router's log has the traceback and the request's id.",
        "baton-request",
    ),
    Alert(
        "BatonTargetDown",
        (Condition('up{job=~"baton-.*"}', "<", "1"),),
        "1m",
        "ticket",
        "{{ $labels.instance }} ({{ $labels.job }}) does not answer Prometheus",
        "`baton status` says whether the process is alive.",
        "baton-engines",
    ),
)

RECORDINGS = _recordings()
ALERTS = _ALERTS


def as_yaml() -> str:
    """The rule file."""
    groups = [
        {"name": "baton-recordings", "rules": [_record(one) for one in RECORDINGS]},
        {"name": "baton-alerts", "rules": [_alert(one) for one in ALERTS]},
    ]
    text: str = yaml.safe_dump({"groups": groups}, sort_keys=False, width=100)
    return text


def _record(one: Recording) -> dict[str, Any]:
    return {"record": one.record, "expr": one.expr}


def _alert(one: Alert) -> dict[str, Any]:
    return {
        "alert": one.name,
        "expr": one.expr,
        "for": one.since,
        "labels": {"severity": one.severity},
        "annotations": {
            "summary": one.summary,
            "description": one.action,
            "dashboard_uid": one.dashboard,
        },
    }
