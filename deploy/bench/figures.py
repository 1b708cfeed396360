"""What a run's outcomes come to: percentiles, rates, goodput, failures by kind. Pure.

Counted are the requests that were due in the window: after the warm-up, until the load's end.
Goodput is those of them that kept every promise, per second of the window; a failure keeps none.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from baton.errors import StartupError, StartupFault
from baton.percentile import percentile
from deploy.bench.client import UNFINISHED, Outcome
from deploy.bench.runner import Run

_SHARES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
KINDS = ("ttft", "tpot", "itl", "e2e")
_LATE_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Slo:
    """Promises in seconds; None = nothing is promised."""

    ttft: float | None = None
    tpot: float | None = None
    e2e: float | None = None
    ttft_per_1000: float | None = None
    """What each 1,000 tokens of the prompt add to TTFT."""

    def kept(self, outcome: Outcome) -> bool:
        """Whether a request kept all of them. A single token has no TPOT, which keeps it."""
        if outcome.failure or outcome.ttft_s is None:
            return False
        more_s = (self.ttft_per_1000 or 0.0) * outcome.input_tokens / 1000
        return (
            _within(outcome.ttft_s - more_s, self.ttft)
            and _within(outcome.tpot_s, self.tpot)
            and _within(outcome.total_s, self.e2e)
        )

    def as_json(self) -> dict[str, float]:
        """Those that are promised."""
        promised = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in promised.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Spread:
    """A latency in seconds over all requests, or over all gaps of all answers (ITL)."""

    count: int
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    most: float

    def as_json(self) -> dict[str, float]:
        """By name."""
        return {name: round(getattr(self, name), 6) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Failures:
    """One kind of failure."""

    count: int
    retry_after: int = 0
    """Of these said when to come back."""
    retry_after_s: float | None = None
    """After so long, on average."""
    example: str = ""
    """What the endpoint said of one of them."""


@dataclass(frozen=True, slots=True)
class Figures:
    """All of it. Rates are per second of the window, or of the time until the last answer."""

    requests: int
    completed: int
    window_s: float
    until_last_s: float
    good: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    latency: dict[str, Spread]
    failures: dict[str, Failures]
    late_p99_s: float
    unfinished: int = 0
    """Dropped, because somebody ended the run."""

    @property
    def offered_per_s(self) -> float:
        return self.requests / self.window_s

    @property
    def goodput_per_s(self) -> float:
        return self.good / self.window_s

    @property
    def attained(self) -> float:
        """The share of requests that kept all promises."""
        return self.good / self.requests if self.requests else 0.0

    @property
    def output_tokens_per_s(self) -> float:
        return self.output_tokens / self.until_last_s

    @property
    def late(self) -> bool:
        """The generator itself was too slow for its figures to be trusted."""
        ttft = self.latency.get("ttft")
        return self.late_p99_s > 0.005 and (
            ttft is None or self.late_p99_s > _LATE_SHARE * ttft.p50
        )

    def as_json(self) -> dict[str, Any]:
        """For programs; times in seconds."""
        return {
            "requests": self.requests,
            "completed": self.completed,
            "failed": self.requests - self.completed,
            "unfinished": self.unfinished,
            "window_s": round(self.window_s, 3),
            "offered_per_s": round(self.offered_per_s, 4),
            "goodput_per_s": round(self.goodput_per_s, 4),
            "attained": round(self.attained, 4),
            "output_tokens_per_s": round(self.output_tokens_per_s, 2),
            "input_tokens": self.input_tokens,
            "cached_tokens": self.cached_tokens,
            "output_tokens": self.output_tokens,
            "latency_s": {name: spread.as_json() for name, spread in self.latency.items()},
            "failures": {kind: asdict(each) for kind, each in self.failures.items()},
            "late_p99_s": round(self.late_p99_s, 6),
        }


def parse_slo(text: str) -> Slo:
    """`ttft=0.5,tpot=0.05,e2e=10`, each in seconds. Raises StartupError."""
    try:
        pairs = [part.partition("=") for part in text.split(",")]
        given = {name.strip(): float(value) for name, _, value in pairs}
        slo = Slo(**given)
    except (ValueError, TypeError):
        raise _no_slo(text) from None
    if not all(0 < value < float("inf") for value in given.values()):
        raise _no_slo(text)
    if slo.ttft is None and slo.ttft_per_1000 is not None:
        # It adds to a promise, and is none by itself.
        raise _no_slo(text)
    return slo


def figures(run: Run, slo: Slo, warmup_s: float, load_s: float) -> Figures:
    """What the window from `warmup_s` to `load_s` came to."""
    counted = [o for o in run.outcomes if o.due_s >= warmup_s]
    asked = [o for o in counted if not (run.interrupted and o.failure == UNFINISHED)]
    done = [o for o in asked if not o.failure]
    last_s = max((o.sent_s + o.total_s for o in done), default=load_s)
    # A load that is all due at once has no rate of its own.
    window_s = min(load_s, run.took_s) if run.interrupted else load_s or run.took_s
    return Figures(
        requests=len(asked),
        completed=len(done),
        window_s=max(window_s - warmup_s, 1e-3),
        until_last_s=max(last_s - warmup_s, 1e-3),
        good=sum(map(slo.kept, asked)),
        input_tokens=sum(o.input_tokens for o in done),
        cached_tokens=sum(o.cached_tokens for o in done),
        output_tokens=sum(o.output_tokens for o in done),
        latency={name: spread for name in KINDS if (spread := _spread(latencies(done, name)))},
        failures=_failures(o for o in asked if o.failure),
        late_p99_s=percentile((o.sent_s - o.due_s for o in asked), 0.99) or 0.0,
        unfinished=len(counted) - len(asked),
    )


def latencies(done: Iterable[Outcome], kind: str) -> list[float]:
    """All values of one of KINDS; gaps count one by one."""
    match kind:
        case "ttft":
            return [o.ttft_s for o in done if o.ttft_s is not None]
        case "tpot":
            return [o.tpot_s for o in done if o.tpot_s is not None]
        case "itl":
            return [gap for o in done for gap in o.gaps_s]
        case _:
            return [o.total_s for o in done]


def _spread(values: Sequence[float]) -> Spread | None:
    if not values:
        return None
    ordered = sorted(values)
    shares = {name: percentile(ordered, share) or 0.0 for name, share in _SHARES.items()}
    return Spread(len(ordered), statistics.fmean(ordered), most=ordered[-1], **shares)


def _failures(failed: Iterable[Outcome]) -> dict[str, Failures]:
    kinds: dict[str, list[Outcome]] = {}
    for outcome in failed:
        kinds.setdefault(outcome.failure, []).append(outcome)
    most_first = sorted(kinds.items(), key=lambda kind: (-len(kind[1]), kind[0]))
    return {kind: _kind(outcomes) for kind, outcomes in most_first}


def _kind(outcomes: Sequence[Outcome]) -> Failures:
    waits = [o.retry_after_s for o in outcomes if o.retry_after_s is not None]
    example = next((o.detail for o in outcomes if o.detail), "")
    mean_s = statistics.fmean(waits) if waits else None
    return Failures(len(outcomes), len(waits), mean_s, example)


def _within(seconds: float | None, promised: float | None) -> bool:
    return seconds is None or promised is None or seconds <= promised


def _no_slo(text: str) -> StartupError:
    example = "Write it like --slo ttft=0.5,tpot=0.05,e2e=10, each in seconds."
    return StartupError(StartupFault.SETTINGS_INVALID, f"--slo {text}: no promise", hint=example)
