"""How pods are reached, by whom, and how many of them may be away at a time."""

from __future__ import annotations

from collections.abc import Iterable

from deploy.kubernetes import pods
from deploy.kubernetes.pods import Json, labels, meta
from deploy.kubernetes.ray import pods_of
from deploy.kubernetes.values import NODE_HEALTH, Values


def services(values: Values) -> list[Json]:
    """The way in; and all routers by address, for gRPC clients, which choose for themselves."""
    found = [_service(values, values.name, values.api_ports)]
    found[0]["spec"]["type"] = values.network.service
    if values.network.service != "ClusterIP":
        # Else clients come from addresses of nodes, and policies know those of clients.
        found[0]["spec"]["externalTrafficPolicy"] = "Local"
    if (grpc := values.api_ports.get("grpc")) is not None:
        headless = _service(values, f"{values.name}-routers", {"grpc": grpc})
        headless["spec"]["clusterIP"] = "None"
        found.append(headless)
    return found


def policies(values: Values) -> list[Json]:
    """Who may speak to whom: see docs/security.md. Engines listen on free ports, so ports cannot
    tell their connections apart; pods can."""
    if not values.network.policies:
        return []
    network = values.network
    inside: list[Json] = [{"podSelector": {"matchLabels": labels(values)}}]
    if values.on_node_network:
        inside += _blocks(network.node_cidrs)
    found = [
        _policy(values, "inside", labels(values), inside, ()),
        _policy(values, "clients", labels(values, "router"), _clients(values), _api(values)),
        # KubeRay asks Ray's head how it is, and Serve for its applications.
        _policy(
            values,
            "operator",
            labels(values, "head"),
            [_namespace(network.operator_namespace)],
            (pods.DASHBOARD, NODE_HEALTH),
        ),
    ]
    if values.monitoring is not None:
        prometheus = _namespace(network.monitoring_namespace)
        prometheus["podSelector"] = {"matchLabels": {"app.kubernetes.io/name": "prometheus"}}
        found.append(_policy(values, "monitoring", labels(values), [prometheus], ()))
    return found


def budgets(values: Values) -> list[Json]:
    """One pod of each part may be away, of the fewest that there can be: counted from more, no pod
    of a pool that the scaling law has made small could be moved. Where that is one, there is none.
    """
    parts = {"router": values.settings.router.routers}
    parts |= {group: pods_of(values, group)[0] for group in values.groups}
    found = [_budget(values, part, number - 1) for part, number in parts.items() if number > 1]
    if values.ray.redis is None:
        # The whole cluster falls with it: whoever drains its node should know.
        found.append(_budget(values, "head", 1))
    return found


def _service(values: Values, name: str, ports: dict[str, int]) -> Json:
    listed = [{"name": port, "port": number, "targetPort": port} for port, number in ports.items()]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta(values, name),
        "spec": {"selector": labels(values, "router"), "ports": listed},
    }


def _api(values: Values) -> Iterable[int]:
    return values.api_ports.values()


def _clients(values: Values) -> list[Json]:
    # Pods of the same namespace, unless somebody else is named.
    found: list[Json] = [{"podSelector": {}}]
    found += [_namespace(name) for name in values.network.client_namespaces]
    return found + _blocks(values.network.client_cidrs)


def _blocks(cidrs: Iterable[str]) -> list[Json]:
    return [{"ipBlock": {"cidr": cidr}} for cidr in cidrs]


def _namespace(name: str) -> Json:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


def _policy(
    values: Values, name: str, selector: Json, peers: list[Json], ports: Iterable[int]
) -> Json:
    rule: Json = {"from": peers}
    if listed := [{"protocol": "TCP", "port": port} for port in ports]:
        rule["ports"] = listed
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": meta(values, f"{values.name}-{name}"),
        "spec": {
            "podSelector": {"matchLabels": selector},
            "policyTypes": ["Ingress"],
            "ingress": [rule],
        },
    }


def _budget(values: Values, part: str, least: int) -> Json:
    # Not maxUnavailable, which Kubernetes cannot count for pods of KubeRay.
    selector = {"matchLabels": labels(values, part)}
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": meta(values, f"{values.name}-{part}"),
        "spec": {"minAvailable": least, "selector": selector},
    }
