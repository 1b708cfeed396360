"""How the requests of a run ended, and what that says. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from baton.settings import SloSettings
from benchmarks.faults_result import percentile
from benchmarks.overload_plan import STEADY, Phase
from benchmarks.stolen import Stolen

WORST = 20
"""The multiple of the capacity that the promises are about."""
ATTAINMENT_MIN = 0.95
REFUSAL_P99_MAX_MS = 10.0
RSS_CHANGE_MAX = 0.05


class End(Enum):
    """How one request ended."""

    ANSWERED = "answered"
    """200 and the whole answer."""
    REFUSED = "refused"
    """429."""
    UNFINISHED = "unfinished"
    """Let in, and given up by the client because the run was over."""
    BROKEN = "broken"
    """200, and an end before the whole answer: must not happen."""
    FAILED = "failed"
    """Neither 200 nor 429: must not happen."""


_MUST_NOT_BE = (End.BROKEN, End.FAILED)
_TURNED_AWAY = (End.REFUSED, *_MUST_NOT_BE)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request, times in seconds from its sending."""

    tenant: str
    end: End
    prompt_tokens: int
    sent_s: float
    """Since its phase began."""
    late_s: float
    """How much later than planned it was sent."""
    took_s: float
    """Until the end of the answer."""
    ttft_s: float = 0.0
    tpot_s: float = 0.0
    reason: str = ""
    """Why it was refused, or what failed."""

    def kept(self, slo: SloSettings) -> bool:
        """Whether it was answered as promised."""
        in_time = self.ttft_s <= slo.ttft_of(self.prompt_tokens) and self.tpot_s <= slo.tpot_s
        return self.end is End.ANSWERED and in_time


@dataclass
class Seen:
    """One phase."""

    phase: Phase
    planned: int
    outcomes: list[Outcome] = field(default_factory=list)
    rss_bytes: list[tuple[float, int]] = field(default_factory=list)
    """Resident memory of the router, by seconds since the phase began."""
    router_cpu_s: float = 0.0
    client_cpu_s: float = 0.0
    began_at: float = 0.0
    """By the clock of `benchmarks.stolen`."""

    def undisturbed_ms(self, stolen: Stolen) -> list[float]:
        """What refusals took during which no core stood still."""
        refused = [o for o in self.outcomes if o.end is End.REFUSED]
        sent = [self.began_at + o.sent_s for o in refused]
        times = zip(sent, [o.took_s for o in refused], strict=True)
        return [took * 1e3 for at, took in times if not stolen.touches(at, at + took)]

    def row(self, slo: SloSettings) -> dict[str, Any]:
        """Its figures."""
        refused = [o.took_s * 1e3 for o in self.outcomes if o.end is End.REFUSED]
        return {
            **shares(self.outcomes, slo),
            "offered_per_s": _round(self.planned / self.phase.seconds),
            "sent_per_s": _round(self._sent_per_s()),
            "late_ms_p99": _ms(o.late_s * 1e3 for o in self.outcomes),
            "refusal_ms_p50": _round(percentile(refused, 50)),
            "refusal_ms_p99": _round(percentile(refused, 99)),
            "refused_by_reason": by_reason(self.outcomes, End.REFUSED),
            "failed_by_reason": by_reason(self.outcomes, *_MUST_NOT_BE),
            "ttft_ms_p50": _ms(self._answered("ttft_s"), 50),
            "ttft_ms_p99": _ms(self._answered("ttft_s")),
            "tpot_ms_p99": _ms(self._answered("tpot_s")),
            "router_cores": _round(self.router_cpu_s / self.phase.seconds),
            "client_cores": _round(self.client_cpu_s / self.phase.seconds),
            "tenants": {name: shares(outcomes, slo) for name, outcomes in self._by_tenant()},
        }

    def _sent_per_s(self) -> float:
        last_s = max((o.sent_s for o in self.outcomes), default=0.0)
        return len(self.outcomes) / max(last_s, self.phase.seconds)

    def _answered(self, name: str) -> list[float]:
        return [getattr(o, name) * 1e3 for o in self.outcomes if o.end is End.ANSWERED]

    def _by_tenant(self) -> Iterable[tuple[str, list[Outcome]]]:
        for name in sorted({o.tenant for o in self.outcomes}):
            yield name, [o for o in self.outcomes if o.tenant == name]


def shares(outcomes: Sequence[Outcome], slo: SloSettings) -> dict[str, Any]:
    """Counts, and the share of what was let in that was answered as promised; None of nothing."""
    ends = Counter(o.end for o in outcomes)
    let_in = len(outcomes) - ends[End.REFUSED] - ends[End.FAILED]
    kept = sum(o.kept(slo) for o in outcomes)
    return {
        "offered": len(outcomes),
        "admitted": let_in,
        "admitted_share": _round(let_in / len(outcomes)) if outcomes else None,
        **{end.value: ends[end] for end in End},
        "attainment": _round(kept / let_in) if let_in else None,
    }


def by_reason(outcomes: Iterable[Outcome], *ends: End) -> dict[str, int]:
    """How many ended so, by reason."""
    return dict(sorted(Counter(o.reason for o in outcomes if o.end in ends).items()))


def growth(samples: Iterable[tuple[float, int]], seconds: float, window_s: float) -> float | None:
    """How much the mean grew from the second window to the last one, as a share of the former."""
    kept = list(samples)
    early = [value for at, value in kept if window_s <= at < 2 * window_s]
    late = [value for at, value in kept if seconds - window_s <= at <= seconds]
    if not early or not late:
        return None
    return (sum(late) / len(late)) / (sum(early) / len(early)) - 1


def line(
    phases: Sequence[Seen], slo: SloSettings, window_s: float, stolen: Stolen
) -> dict[str, Any]:
    """The result of a run: what is promised first, then everything by phase."""
    worst = next(seen for seen in phases if seen.phase.multiple == WORST)
    row, undisturbed_ms = worst.row(slo), worst.undisturbed_ms(stolen)
    steady = [o for seen in phases for o in seen.outcomes if o.tenant == STEADY]
    everything = [o for seen in phases for o in seen.outcomes]
    return {
        "admitted_slo_attainment": row["attainment"],
        "refusal_ms_p50": row["refusal_ms_p50"],
        "refusal_ms_p99": row["refusal_ms_p99"],
        "refusal_ms_p99_undisturbed": _ms(undisturbed_ms) if stolen.watching else None,
        "refusals_undisturbed": len(undisturbed_ms),
        "stolen_s": round(stolen.total_s, 3),
        "router_rss_growth": _round(growth(worst.rss_bytes, worst.phase.seconds, window_s)),
        "within_share_refused": sum(o.end in _TURNED_AWAY for o in steady),
        "failed": sum(o.end in _MUST_NOT_BE for o in everything),
        "unfinished": sum(o.end is End.UNFINISHED for o in everything),
        "offered_per_s": row["offered_per_s"],
        "sent_per_s": row["sent_per_s"],
        "admitted_share_by_tenant": {
            name: tenant["admitted_share"] for name, tenant in row["tenants"].items()
        },
        "refused_by_reason": row["refused_by_reason"],
        "failed_by_reason": by_reason(everything, *_MUST_NOT_BE),
        "router_rss_mib": _mib(worst.rss_bytes),
        "phases": {f"{seen.phase.multiple}x": seen.row(slo) for seen in phases},
    }


def missed(result: Mapping[str, Any]) -> list[str]:
    """The promises that were not kept. What could not be measured was not."""
    attainment, refusal_ms = result["admitted_slo_attainment"], result["refusal_ms_p99"]
    change = result["router_rss_growth"]
    kept = {
        f"attainment of at least {ATTAINMENT_MIN}": (attainment or 0.0) >= ATTAINMENT_MIN,
        f"refusals in {REFUSAL_P99_MAX_MS:g} ms": (refusal_ms or 1e9) <= REFUSAL_P99_MAX_MS,
        "steady memory": change is not None and abs(change) <= RSS_CHANGE_MAX,
        "nobody refused within a share": result["within_share_refused"] == 0,
        "nothing failed": result["failed"] == 0,
        "nothing left behind": not result.get("left"),
    }
    return [name for name, good in kept.items() if not good]


def _ms(values: Iterable[float], share: float = 99) -> float | None:
    return _round(percentile(values, share))


def _mib(samples: Sequence[tuple[float, int]]) -> float | None:
    return round(samples[-1][1] / 2**20, 1) if samples else None


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
