"""From what a router knows to the one JSON object that the page and `baton top` show. Pure.

Whatever `/metrics` has is taken from a reading of the same registry; states and reasons are those
of `/status`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any

from baton.messages import Role
from baton.settings.router import SloSettings
from baton.signals import PoolSignals, RouterSignals
from router.ui import figures
from router.ui.attention import attention
from router.ui.figures import Figures
from router.ui.history import RATE_S, STEP_S, WINDOW_S, Latency, Point

WORKERS_MAX = 256
"""Workers beyond it are counted in their pools, and not listed."""
_DIGITS = 4
_ATTAINED_OVER = "5m"


@dataclass(frozen=True, slots=True)
class View:
    """All that one moment is made of. Times in seconds of the router's clock."""

    now_s: float
    wall_s: float
    """The same moment since 1970."""
    model: str
    slo: SloSettings
    found: Figures
    points: Sequence[Point]
    latest: Point
    signals: RouterSignals
    status: Mapping[str, Any] = field(default_factory=dict)
    """As `/status` shows it."""
    recent: Sequence[Mapping[str, Any]] = ()


def data(view: View) -> dict[str, Any]:
    """The object, in what JSON can hold. Times in seconds, sizes in bytes."""
    status = view.status
    workers = list(_workers(view))
    pools = [_pool(view, role, workers) for role in Role]
    rows = {
        "at": round(view.wall_s, 3),
        "model": view.model,
        "router": {
            "id": status.get("router_id", ""),
            "draining": bool(status.get("draining")),
            "view_age_s": status.get("view_age_s"),
        },
        "routers": status.get("routers", []),
        "slo": view.slo.model_dump(),
        "requests": _requests(view),
        "latency": {"ttft": asdict(view.latest.ttft), "tpot": asdict(view.latest.tpot)},
        "attainment": attainment(view),
        "chart": _chart(view),
        "choices": _choices(view.found),
        "pools": pools,
        "workers": workers[:WORKERS_MAX],
        "workers_left_out": max(len(workers) - WORKERS_MAX, 0),
        "scaling": status.get("scaling"),
        "recent": list(view.recent),
    }
    return {**rows, "attention": attention(rows)}


def attainment(view: View) -> list[dict[str, Any]]:
    """Who is served within the promises: the share of requests, None where none was measured.

    One row for each class of requests that the metrics tell apart, else all of them together.
    """
    classes: dict[str, dict[str, Any]] = {}
    for labels, kept in view.found.samples.get(figures.ATTAINED, ()):
        if labels.get("window") == _ATTAINED_OVER and kept == kept:  # noqa: PLR0124 (NaN)
            name = labels.get("class", "")
            row = classes.setdefault(name, {"name": name, "ttft": None, "tpot": None})
            row[labels.get("promise", "")] = kept
    signals = view.signals
    both = {"ttft": _kept(signals.prefill.attained), "tpot": _kept(signals.decode.attained)}
    return list(classes.values()) or [{"name": "all requests", **both}]


def _kept(ratios: Sequence[float]) -> float | None:
    return sum(ratio <= 1 for ratio in ratios) / len(ratios) if ratios else None


def _requests(view: View) -> dict[str, Any]:
    found, latest = view.found, view.latest
    return {
        "inflight": found.total(figures.INFLIGHT),
        "queued": found.total(figures.QUEUED),
        "finished_per_s": round(latest.finished, _DIGITS),
        "failed_per_s": round(latest.failed, _DIGITS),
        "refused_per_s": round(latest.refused, _DIGITS),
        "ended": found.by(figures.REQUESTS, "outcome"),
        "failed": _without_nothing(found.by(figures.REQUESTS, "reason")),
        "refused": found.by(figures.REFUSALS, "reason"),
        "retried": found.by(figures.RETRIES, "reason"),
    }


def _without_nothing(counts: Mapping[str, float]) -> dict[str, float]:
    return {reason: count for reason, count in counts.items() if reason}


def _chart(view: View) -> dict[str, Any]:
    """Columns of equal length, the oldest moment first; the last one is now."""
    points = [p for p in view.points if p.at_s < view.latest.at_s]
    points.append(view.latest)
    return {
        "step_s": STEP_S,
        "window_s": WINDOW_S,
        "rate_s": RATE_S,
        "age_s": [round(view.now_s - p.at_s, 1) for p in points],
        "ttft": _columns([p.ttft for p in points]),
        "tpot": _columns([p.tpot for p in points]),
        "finished": [round(p.finished, _DIGITS) for p in points],
        "failed": [round(p.failed, _DIGITS) for p in points],
        "refused": [round(p.refused, _DIGITS) for p in points],
    }


def _columns(rows: Sequence[Latency]) -> dict[str, list[float | None]]:
    return {name: [_rounded(getattr(row, name)) for row in rows] for name in ("p50", "p90", "p99")}


def _choices(found: Figures) -> dict[str, Any]:
    return {
        "division": found.by(figures.CHOICES, "reason"),
        "prefill": found.by(figures.PREFILL_CHOICES, "reason"),
        "decode": found.by(figures.DECODE_CHOICES, "reason"),
        "rebalanced": found.total(figures.MOVED),
    }


def _pool(view: View, role: Role, workers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    mine = [w for w in workers if w["role"] == role.value]
    linked = [w for w in mine if w["up"]]
    signals: PoolSignals = getattr(view.signals, role.value)
    return {
        "role": role.value,
        "wanted": (view.status.get("scaling") or {}).get(role.value),
        "workers": len(mine),
        "ready": sum(w["state"] == "ready" and w["up"] for w in mine),
        "running": sum(w["running"] for w in linked),
        "waiting": sum(w["waiting"] for w in linked),
        "kv_used": fmean(w["kv_used"] for w in linked) if linked else None,
        "arriving_tokens_per_s": round(signals.arriving_tokens_per_s, 1),
        "worker_tokens_per_s": round(signals.worker_tokens_per_s, 1),
        "queued_s": round(signals.waiting_s + signals.queued_s, _DIGITS),
        "attained": _kept(signals.attained),
        "predicted": _rounded(signals.predicted),
    }


def _workers(view: View) -> Iterable[dict[str, Any]]:
    """Those that the cluster knows, and those that this router is linked to."""
    status = view.status
    linked = {row["worker_id"]: row for row in status.get("workers", ())}
    members = {row["worker_id"]: row for row in status.get("members", ())}
    planned = status.get("routing", {}).get("workers", {})
    for name in sorted({*linked, *members}):
        yield _worker(
            name,
            members.get(name, {}),
            linked.get(name, {}),
            planned.get(name, {}),
        )


def _worker(
    name: str,
    member: Mapping[str, Any],
    linked: Mapping[str, Any],
    planned: Mapping[str, Any],
) -> dict[str, Any]:
    load, transfer = linked.get("load", {}), linked.get("transfer")
    up = bool(linked.get("up"))
    return {
        "id": name,
        "role": linked.get("role") or member.get("role", ""),
        "state": member.get("state") or ("ready" if up else "gone"),
        "detail": member.get("detail", ""),
        "restarts": member.get("restarts", 0),
        "up": up,
        "draining": bool(linked.get("draining")),
        "running": load.get("running", 0),
        "waiting": load.get("waiting", 0),
        "queued_prompt_tokens": load.get("queued_prompt_tokens", 0),
        "kv_used": load.get("kv_used", 0.0),
        "step_s": _rounded(load.get("step_s")),
        "queue_s": planned.get("queue_s"),
        "cached_blocks": planned.get("cached_blocks"),
        "transfer": None if transfer is None else _transfer(transfer),
    }


def _transfer(report: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "bytes_written": report["bytes_written"],
        "received": report["received"],
        "failed": sum(report["ended"].values()),
        "open": sum(report["tickets"].values()),
        "fenced_blocks": report["fenced_blocks"],
        "quarantined_blocks": report["quarantined_blocks"],
        "gb_per_s": report["gb_per_s"],
    }


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 5)
