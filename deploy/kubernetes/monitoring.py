"""What the Prometheus operator and Grafana's sidecar pick up."""

from __future__ import annotations

import yaml

from deploy.dashboards import rules
from deploy.dashboards.files import DASHBOARDS, files
from deploy.kubernetes.pods import Json, labels, meta
from deploy.kubernetes.values import Values

_INTERVAL = "15s"


def monitors(values: Values) -> list[Json]:
    """Ray's figures, Baton's figures, and the rules behind dashboards and alerts."""
    if values.monitoring is None:
        return []
    return [_pod_monitor(values), _scrape_config(values), _rules(values)]


def dashboards(values: Values) -> list[Json]:
    """One ConfigMap for each dashboard."""
    if values.monitoring is None:
        return []
    texts = files(_url(values))
    return [_dashboard(values, f"{one.uid}.json", texts[f"{one.uid}.json"]) for one in DASHBOARDS]


def _url(values: Values) -> str:
    scheme = "http" if values.secrets.tls is None else "https"
    return f"{scheme}://{_host(values)}:{values.settings.router.port}"


def _host(values: Values) -> str:
    return f"{values.name}.{values.namespace}.svc"


def _labelled(values: Values, name: str, **more: str) -> Json:
    found = meta(values, name)
    assert values.monitoring is not None
    found["labels"] |= {**values.monitoring.labels, **more}
    return found


def _pod_monitor(values: Values) -> Json:
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": _labelled(values, f"{values.name}-ray"),
        "spec": {
            "selector": {"matchLabels": labels(values)},
            "podTargetLabels": ["baton-cluster", "baton-part", "ray.io/cluster", "ray.io/group"],
            "podMetricsEndpoints": [{"port": "metrics", "interval": _INTERVAL}],
        },
    }


def _scrape_config(values: Values) -> Json:
    """Routers and workers listen on free ports, which a router lists."""
    discovery: Json = {"url": f"{_url(values)}/targets", "refreshInterval": _INTERVAL}
    assert values.monitoring is not None
    if values.monitoring.key is not None:
        secret = {"name": values.monitoring.key, "key": "key"}
        discovery["authorization"] = {"type": "Bearer", "credentials": secret}
    if values.secrets.tls is not None:
        authority = {"secret": {"name": values.secrets.tls, "key": "ca.crt"}}
        discovery["tlsConfig"] = {"ca": authority, "serverName": _host(values)}
    return {
        "apiVersion": "monitoring.coreos.com/v1alpha1",
        "kind": "ScrapeConfig",
        "metadata": _labelled(values, values.name),
        "spec": {"scrapeInterval": _INTERVAL, "httpSDConfigs": [discovery]},
    }


def _rules(values: Values) -> Json:
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": _labelled(values, values.name),
        "spec": yaml.safe_load(rules.as_yaml()),
    }


def _dashboard(values: Values, file: str, text: str) -> Json:
    name = f"{values.name}-{file.removesuffix('.json')}"
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _labelled(values, name, grafana_dashboard="1"),
        "data": {file: text},
    }
