"""Promises kept, as metrics: by tenant class, of one model.

TTFT is the promise that sizes the prefill pool and TPOT the one that sizes the decode pool, so
`promise` is at the same time the pool: no further label is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from baton.settings import SloSettings
from router.attainment import PROMISES, WINDOWS_S, Attainment, Verdict, burn

_CLASS = ("model", "class")
_PROMISE = (*_CLASS, "promise")
_ATTAINMENT_WINDOWS = ("5m", "1h")
_YES_NO = {True: "yes", False: "no"}


class _Row(NamedTuple):
    """The counters of one class, looked up once."""

    kept: Mapping[tuple[int, bool], Counter]
    goodput: Counter
    output: Counter
    prompt: Counter
    attainment: Attainment


class SloMetrics:
    """Of one router. Rows are bounded by the classes and tenants in the settings."""

    def __init__(
        self,
        registry: CollectorRegistry,
        model: str,
        classes: Mapping[str, SloSettings],
        tenants: Iterable[str],
        now: Callable[[], float],
    ) -> None:
        self._registry = registry
        self._define()
        self._rows = {name: self._row(model, name) for name in classes}
        self._tenants = {
            (tenant, met): self._by_tenant.labels(tenant, word)
            for tenant in tenants
            for met, word in _YES_NO.items()
        }
        for name, slo in classes.items():
            self._promise.labels(model, name, "ttft").set(slo.ttft_s)
            self._promise.labels(model, name, "tpot").set(slo.tpot_s)
            self._objective.labels(model, name).set(slo.percentile)
        attained = {name: row.attainment for name, row in self._rows.items()}
        objective = {name: slo.percentile for name, slo in classes.items()}
        registry.register(AttainmentCollector(model, attained, objective, now))

    def ended(
        self, slo_class: str, tenant: str, verdict: Verdict, prompt: int, output: int, now: float
    ) -> None:
        """A request of so many tokens that was let in has ended."""
        row = self._rows[slo_class]
        row.prompt.inc(prompt)
        row.output.inc(output)
        for at, met in enumerate(verdict):
            if met is not None:
                row.kept[at, met].inc()
        if verdict.both is not None:
            self._tenants[tenant, verdict.both].inc()
        if verdict.both:
            row.goodput.inc(output)
        row.attainment.add(verdict, now)

    def _row(self, model: str, name: str) -> _Row:
        kept = {
            (at, met): self._kept.labels(model, name, promise, word)
            for at, promise in enumerate(PROMISES)
            for met, word in _YES_NO.items()
        }
        goodput, output, prompt = (
            one.labels(model, name) for one in (self._goodput, self._output, self._prompt)
        )
        return _Row(kept, goodput, output, prompt, Attainment())

    def _define(self) -> None:
        counter, gauge = self._counter, self._gauge
        self._kept = counter(
            "slo_requests",
            "Requests that were let in and have ended, by promise and whether it was kept.",
            *_PROMISE,
            "met",
        )
        self._by_tenant = counter(
            "tenant_slo_requests",
            "Requests that were let in and have ended, by whether both promises were kept.",
            "tenant",
            "met",
        )
        self._goodput = counter(
            "goodput_tokens", "Output tokens of requests that were kept both promises.", *_CLASS
        )
        self._output = counter(
            "output_tokens", "Output tokens, counted at the end of each request.", *_CLASS
        )
        self._prompt = counter(
            "prompt_tokens",
            "Prompt tokens of what was let in, counted at the end of each request.",
            *_CLASS,
        )
        self._promise = gauge(
            "slo_promise_seconds",
            "What is promised: TTFT of a prompt of no length, and TPOT.",
            *_PROMISE,
        )
        self._objective = gauge(
            "slo_objective_ratio", "Part of requests for which promises are to be kept.", *_CLASS
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"baton_{name}", text, labels, registry=self._registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"baton_{name}", text, labels, registry=self._registry)


class AttainmentCollector(Collector):
    """Renders shares over windows. There is no row where no request counted."""

    def __init__(
        self,
        model: str,
        attained: Mapping[str, Attainment],
        objective: Mapping[str, float],
        now: Callable[[], float],
    ) -> None:
        self._model = model
        self._attained = attained
        self._objective = objective
        self._now = now

    def collect(self) -> Iterator[Metric]:
        """Both families, those without a row as well."""
        now = self._now()
        attainment = GaugeMetricFamily(
            "baton_slo_attainment_ratio",
            "Part of the requests of the last minutes that were kept the promise.",
            labels=(*_PROMISE, "window"),
        )
        budget = GaugeMetricFamily(
            "baton_error_budget_burn_ratio",
            "How fast the error budget goes; 1 = just as fast as the objective allows.",
            labels=(*_PROMISE, "window"),
        )
        for name, promise, window in self._all():
            share = self._attained[name].share(window, promise, now)
            labels = (self._model, name, promise, window)
            if share is not None:
                budget.add_metric(labels, burn(share, self._objective[name]))
            if share is not None and window in _ATTAINMENT_WINDOWS:
                attainment.add_metric(labels, share)
        yield attainment
        yield budget

    def _all(self) -> Iterator[tuple[str, str, str]]:
        for name in self._attained:
            for promise in PROMISES:
                for window in WINDOWS_S:
                    yield name, promise, window
