"""Whether policies let through what a cluster needs, and nobody else: a table of who speaks to whom
is held against the NetworkPolicies as Kubernetes reads them. Documents in, sentences out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from manifest_schemas import templates

from deploy.kubernetes.pods import CONTROL_STORE, DASHBOARD
from deploy.kubernetes.values import NODE_HEALTH, RAY_METRICS, Network

Json = dict[str, Any]
_KINDS = frozenset({"RayCluster", "RayService", "StatefulSet"})
_FREE = 40001
"""A port that no setting names: workers listen on such."""
_REDIS = 6379


@dataclass(frozen=True, slots=True)
class Peer:
    """Who speaks: a pod by namespace and labels, or an address where it has its machine's."""

    name: str
    namespace: str
    labels: Mapping[str, str] = field(default_factory=dict)
    on_node: bool = False


@dataclass(frozen=True, slots=True)
class _Pod:
    part: str
    peer: Peer


def flow_problems(documents: list[Json], api: Iterable[int]) -> list[str]:
    """Connections that policies cut off though the cluster needs them, and the other way round."""
    policies = [one for one in documents if one["kind"] == "NetworkPolicy"]
    pods = list(_pods(documents))
    if not policies:
        return []
    found = []
    for source, pod, port, wanted in _table(documents, pods, sorted(api)):
        # Policies do not hold for pods on the network of their machine.
        if not pod.peer.on_node and _passes(policies, source, pod.peer, port) is not wanted:
            what = "do not let" if wanted else "let"
            found.append(f"policies {what} {source.name} speak to {pod.part}:{port}")
    return found


def _table(
    documents: list[Json], pods: list[_Pod], api: list[int]
) -> Iterator[tuple[Peer, _Pod, int, bool]]:
    namespace = documents[0]["metadata"]["namespace"]
    operator = Peer("KubeRay", Network().operator_namespace)
    neighbour, stranger = Peer("a pod beside", namespace), Peer("a stranger", "elsewhere")
    shown = any(one["kind"] == "PodMonitor" for one in documents)
    label = {"app.kubernetes.io/name": "prometheus"}
    prometheus = Peer("Prometheus", Network().monitoring_namespace, label)
    rays = [pod for pod in pods if pod.part != "redis"]
    for pod in pods:
        port = _REDIS if pod.part == "redis" else _FREE
        ports = [port, CONTROL_STORE] if pod.part == "head" else [port]
        # Of Ray only its head reads Redis; whoever else wrote there would rule the cluster.
        for other in rays:
            wanted = pod.part != "redis" or other.part == "head"
            yield from ((other.peer, pod, port, wanted) for port in ports)
        yield from ((who, pod, port, False) for who in (neighbour, stranger) for port in ports)
        if pod.part == "head":
            yield from ((operator, pod, port, True) for port in (DASHBOARD, NODE_HEALTH))
            yield from ((who, pod, DASHBOARD, False) for who in (neighbour, stranger))
        if pod.part == "router":
            yield from ((neighbour, pod, port, True) for port in api)
        if shown and pod.part != "redis":
            yield from ((prometheus, pod, port, True) for port in (RAY_METRICS, _FREE))


def _pods(documents: list[Json]) -> Iterator[_Pod]:
    for document in documents:
        if document["kind"] in _KINDS:
            for template in templates(document):
                labels = template["metadata"]["labels"]
                part = labels.get("baton-part", "redis")
                namespace = document["metadata"]["namespace"]
                on_node = template["spec"].get("hostNetwork", False)
                yield _Pod(part, Peer(part, namespace, labels, on_node))


def _passes(policies: list[Json], source: Peer, target: Peer, port: int) -> bool:
    holding = [one for one in policies if _matches(one["spec"]["podSelector"], target.labels)]
    rules = [rule for one in holding for rule in one["spec"]["ingress"]]
    home = target.namespace
    return not holding or any(
        ("from" not in rule or any(_is(peer, source, home) for peer in rule["from"]))
        and port in {named["port"] for named in rule.get("ports", [{"port": port}])}
        for rule in rules
    )


def _is(peer: Json, source: Peer, home: str) -> bool:
    if "ipBlock" in peer:
        # Which addresses machines have is not in manifests; that somebody named them is.
        return source.on_node
    if source.on_node:
        return False
    named = {"kubernetes.io/metadata.name": source.namespace}
    inside = peer.get("namespaceSelector")
    there = source.namespace == home if inside is None else _matches(inside, named)
    return there and _matches(peer.get("podSelector", {}), source.labels)


def _matches(selector: Json, labels: Mapping[str, str]) -> bool:
    wanted: Mapping[str, str] = selector.get("matchLabels", {})
    return wanted.items() <= labels.items()
