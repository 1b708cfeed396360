"""PromQL as the dashboards need it: selectors with the dashboard's choices, rates, quantiles. Pure.

What routers count of their own is summed over them. What every router says of the same worker, or
of the cluster, is taken once, with `max`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from deploy.dashboards.model import Query, Variable

SLO_CHOICE = ('model=~"$model"', 'class=~"$class"')
ROLE_CHOICE = ('role=~"$role"',)
QUANTILES = (0.5, 0.9, 0.99)
CLUSTER = Variable("cluster", "baton_inflight_requests, cluster", "Cluster")
MODEL = Variable("model", "baton_slo_requests_total, model", "Model")
CLASS = Variable("class", "baton_slo_requests_total, class", "Class")
ROLE = Variable("role", "baton_scaler_workers, role", "Worker role")

_HERE = 'cluster=~"$cluster"'
_NAME = re.compile(r"(?<![\w:$])((?:baton[_:]|vllm:|process_)[\w:]+|up)(?=[\s{\[)(+*/>-]|$)")
_FIXED = {"__rate_interval": "30s", "__interval": "15s", "__range": "5m"}


def sel(name: str, *matchers: str) -> str:
    """The series of one metric in the chosen cluster."""
    return f"{name}{{{','.join((_HERE, *matchers))}}}"


def rate(name: str, *matchers: str) -> str:
    """What a counter gains each second."""
    return f"rate({sel(name, *matchers)}[$__rate_interval])"


def summed(name: str, by: str, *matchers: str) -> str:
    """What counters gain each second, of all routers or workers together."""
    return f"sum{_by(by)} ({rate(name, *matchers)})"


def once(name: str, by: str, *matchers: str) -> str:
    """A gauge of which every router says the same."""
    return f"max{_by(by)} ({sel(name, *matchers)})"


def once_rate(name: str, by: str, *matchers: str) -> str:
    """A counter of which every router says the same."""
    return f"max{_by(by)} ({rate(name, *matchers)})"


def or_zero(expr: str) -> str:
    """A counter that has no series before its first event is 0."""
    return f"({expr}) or vector(0)"


def quantile(q: float, name: str, by: str = "", *matchers: str) -> str:
    """A quantile of a histogram, of all routers or workers together."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({q:g}, {summed(f'{name}_bucket', labels, *matchers)})"


def quantiles(name: str, *matchers: str, idle: str = "") -> tuple[Query, ...]:
    """p50, p90 and p99."""
    return tuple(Query(quantile(q, name, "", *matchers), f"p{q * 100:g}", idle) for q in QUANTILES)


def part(name: str, by: str, of: str, *matchers: str) -> str:
    """The share of a counter's gain that the series with the matcher `of` have; 0 without any."""
    every = summed(name, by, *matchers)
    return f"({summed(name, by, of, *matchers)} or 0 * {every}) / {every}"


def mean(name: str, by: str = "", *matchers: str) -> str:
    """The mean of what a histogram saw."""
    total = summed(f"{name}_sum", by, *matchers)
    return f"{total} / {summed(f'{name}_count', by, *matchers)}"


def names(expr: str) -> frozenset[str]:
    """The metrics that an expression reads, recorded ones included."""
    return frozenset(_NAME.findall(re.sub(r'"[^"]*"', '""', expr)))


def filled(expr: str, variables: Iterable[Variable], values: Mapping[str, str]) -> str:
    """The expression as Grafana would send it; a variable without a value stands for all."""
    chosen = {**_FIXED, **{v.name: ".*" for v in variables}, **values}
    for name in sorted(chosen, key=len, reverse=True):
        expr = expr.replace(f"${name}", chosen[name])
    return expr


def _by(labels: str) -> str:
    return f" by ({labels})" if labels else ""
