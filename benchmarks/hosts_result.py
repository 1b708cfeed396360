"""What a run on several hosts does, and what it found. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.faults_result import Result, rounded

THREE: Mapping[str, str] = {"head": "decode", "prefill": "prefill", "decode": "decode"}
TWO: Mapping[str, str] = {"head": "decode", "prefill": "prefill"}
"""Hosts, and the role of the worker on each."""


@dataclass(frozen=True, slots=True)
class Patience:
    """When Ray takes a silent node for dead: so many looks in a row that fail."""

    period_s: float = 2.0
    timeout_s: float = 4.0
    failures: int = 3

    @property
    def environment(self) -> dict[str, str]:
        """For Ray's head."""
        return {
            "RAY_health_check_period_ms": str(round(1000 * self.period_s)),
            "RAY_health_check_timeout_ms": str(round(1000 * self.timeout_s)),
            "RAY_health_check_failure_threshold": str(self.failures),
        }


RAYS_OWN = Patience(3.0, 10.0, 5)


@dataclass
class Cut:
    """One host off for a while, and what became of it."""

    host: str
    lasts_s: float
    given_up: bool
    """Whether its worker is to be taken for dead."""
    served_during: int = 0
    """Requests that ended well between its second second and its end."""
    given_up_s: float | None = None
    """After so long the controller took its worker for dead."""
    recovered_s: float = 0.0
    """From its end until all workers were ready, linked, and KV was handed over."""
    restarted: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether others served meanwhile, and only what was given up was started again."""
        return self.served_during > 0 and bool(self.restarted) == self.given_up

    def line(self) -> dict[str, Any]:
        """As it is printed."""
        times = {name: rounded(getattr(self, name)) for name in ("given_up_s", "recovered_s")}
        return {**asdict(self), **times, "ok": self.ok}


@dataclass(frozen=True, slots=True)
class Plan:
    """Which hosts there are, and which of them is cut off when."""

    roles: Mapping[str, str]
    patience: Patience
    cuts: tuple[Cut, ...]


def plan_of(*, quick: bool, short: bool) -> Plan:
    """By size. The controller takes a worker for dead that has not answered for 30 s; Ray a node
    after `Patience`, here sooner or later than that."""
    brief = Cut("prefill", 8.0, given_up=False)
    if short:
        return Plan(TWO, Patience(), (brief,))
    if quick:
        return Plan(TWO, Patience(), (brief, Cut("prefill", 30.0, given_up=True)))
    cuts = (
        brief,
        Cut("decode", 8.0, given_up=False),
        Cut("prefill", 20.0, given_up=False),
        Cut("prefill", 45.0, given_up=True),
        Cut("decode", 90.0, given_up=True),
    )
    return Plan(THREE, RAYS_OWN, cuts)


@dataclass
class Figures:
    """Over the whole run."""

    served_before: int = 0
    """Requests that ended well before the first cut."""
    kv_bytes: int = 0
    """Written by prefill from the first request until then."""
    wire_bytes: int = 0
    """What left its host's only interface meanwhile."""
    cuts: list[Cut] = field(default_factory=list)
    start_s: float = 0.0
    exit_status: int | None = None

    @property
    def kv_over(self) -> str:
        """A host without RDMA has no other way than TCP for what leaves it."""
        return "tcp" if 0 < self.kv_bytes <= self.wire_bytes else "unknown"

    def line(self, result: Result, took_s: float) -> dict[str, Any]:
        """As it is printed."""
        bad = result.lost + result.wrong + result.hung
        whole = self.kv_over == "tcp" and self.served_before > 0 and self.exit_status == 0
        return {
            "ok": whole and not bad and all(cut.ok for cut in self.cuts),
            "requests": result.requests,
            "finished": result.finished,
            "lost": result.lost,
            "wrong": result.wrong,
            "hung": result.hung,
            "ties": result.ties,
            "typed_errors": dict(result.typed_errors),
            "served_before": self.served_before,
            "served_during": sum(cut.served_during for cut in self.cuts),
            "recovered_s": rounded(max((cut.recovered_s for cut in self.cuts), default=None)),
            "kv_over": self.kv_over,
            "kv_mib": round(self.kv_bytes / 2**20, 1),
            "wire_mib": round(self.wire_bytes / 2**20, 1),
            "cuts": [cut.line() for cut in self.cuts],
            "start_s": rounded(self.start_s),
            "exit_status": self.exit_status,
            "seconds": rounded(took_s),
        }
