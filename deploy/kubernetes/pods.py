"""The pods: one template for each part of the cluster."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from deploy.kubernetes import own_settings as own
from deploy.kubernetes.values import NODE_HEALTH, RAY_METRICS, Pool, Size, Values

Json = dict[str, Any]
USER = 1000
"""The user of the image."""
DASHBOARD = 8265
CONTROL_STORE = 6379
FRONT_PARTS = frozenset({"router", "controller"})
"""Parts that read what clients are shown, and their keys."""
_HEAD_S = 60
_RESTART_S = 10
_OBJECT_STORE_BYTES = 100 * 2**20
"""Baton puts nothing into Ray's object store; this is near the least that Ray takes."""


def labels(values: Values, part: str | None = None) -> Json:
    """What selects the pods of this cluster, or of one part of it."""
    return {"baton-cluster": values.name} | ({} if part is None else {"baton-part": part})


def meta(values: Values, name: str, **more: Any) -> Json:
    """The metadata of one manifest."""
    return {
        "name": name,
        "namespace": values.namespace,
        "labels": {"app.kubernetes.io/name": "baton", "app.kubernetes.io/instance": values.name},
        **more,
    }


def head(values: Values) -> Json:
    """Ray's head: nothing of Baton runs there."""
    ports = {"gcs": CONTROL_STORE, "dashboard": DASHBOARD, "metrics": RAY_METRICS}
    container = _container(values, "ray-head", values.image.cpu, values.head, ports)
    if values.kind != "RayService":
        return _pod(values, "head", container, grace_s=_HEAD_S)
    # All pods of the earlier cluster are ended at once, and those that drain need Ray until then.
    container["lifecycle"] = {"preStop": {"sleep": {"seconds": values.leave_s}}}
    # The hook also runs before a head that hangs is started anew, and nobody gains by that wait.
    container["livenessProbe"]["terminationGracePeriodSeconds"] = _RESTART_S
    return _pod(values, "head", container, grace_s=values.leave_s + _HEAD_S)


def controller(values: Values) -> Json:
    """`baton serve` beside a node of Ray. Whoever ends it ends nothing else."""
    ports = {"metrics": RAY_METRICS}
    container = _container(values, "baton", values.image.cpu, values.controller, ports)
    container["command"] = ["/usr/local/bin/baton-controller", "--config", own.FILE]
    pod = _pod(values, "controller", container, grace_s=30)
    pod["metadata"]["annotations"]["ray.io/overwrite-container-cmd"] = "true"
    return pod


def router(values: Values) -> Json:
    """A node of Ray for one router, ready when the router is."""
    image = values.image.gpu if values.settings.router.front == "rust" else values.image.cpu
    ports = {**values.api_ports, "metrics": RAY_METRICS}
    container = _leaving(values, _container(values, "ray", image, values.router, ports))
    container["readinessProbe"] = _ready(values)
    pod = _pod(values, "router", container, grace_s=values.leave_s)
    pod["spec"]["topologySpreadConstraints"] = _spread(values, "router")
    return pod


def engines(values: Values, group: str) -> Json:
    """A node of Ray for engines."""
    size = values.size_of(group)
    cuda = values.settings.engine.device == "cuda"
    image = values.image.gpu if cuda else values.image.cpu
    container = _container(values, "ray", image, size, {"metrics": RAY_METRICS})
    container = _leaving(values, container)
    _take(container, {"nvidia.com/gpu": values.gpus_of(group)})
    pod = _pod(values, group, container, grace_s=values.leave_s)
    spec = pod["spec"]
    _place(spec, size)
    _share_memory(spec, size)
    spec["topologySpreadConstraints"] = _spread(values, group)
    spec["affinity"] = _near_each_other(values)
    if values.rdma is not None:
        _reach_by_rdma(values, spec)
    return pod


def ray_params(resources: Mapping[str, int], **more: str) -> dict[str, str]:
    """What `ray start` is told. Resources are in the one form that KubeRay, Ray's autoscaler and
    the shell all read: JSON in single quotes, with whole numbers and nothing escaped."""
    found = {"object-store-memory": str(_OBJECT_STORE_BYTES), **more}
    if resources:
        found["resources"] = f"'{json.dumps(dict(resources))}'"
    return found


# --- parts of a pod -------------------------------------------------------------------------------


def _pod(values: Values, part: str, container: Json, *, grace_s: int) -> Json:
    volumes, mounts = _files(values, part)
    container["volumeMounts"] = mounts
    spec: Json = {
        "terminationGracePeriodSeconds": grace_s,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": volumes,
    }
    if part != "head":  # The autoscaler runs beside the head, and talks to Kubernetes.
        spec["automountServiceAccountToken"] = False
    if values.image.pull_secret is not None:
        spec["imagePullSecrets"] = [{"name": values.image.pull_secret}]
    annotations = {"baton-settings": own.digest(values)}
    return {
        "metadata": {"labels": labels(values, part), "annotations": annotations},
        "spec": spec,
    }


def _container(values: Values, name: str, image: str, size: Size, ports: Mapping[str, int]) -> Json:
    takes = {"cpu": str(size.cpus), "memory": size.memory}
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": values.image.pull_policy,
        "ports": [{"name": name, "containerPort": port} for name, port in ports.items()],
        "env": _environment(values),
        "resources": {"requests": dict(takes), "limits": dict(takes)},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        # A node that has lost the head, or its raylet, is started anew.
        "startupProbe": _node_probe(period_s=5, failures=60),
        "livenessProbe": _node_probe(period_s=10, failures=6),
        "readinessProbe": _node_probe(period_s=5, failures=3),
    }


def _environment(values: Values) -> list[Json]:
    variables = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0"}
    if values.rdma is not None and values.rdma.net_devices is not None:
        variables["UCX_NET_DEVICES"] = values.rdma.net_devices
    return [{"name": name, "value": value} for name, value in variables.items()]


def _node_probe(*, period_s: int, failures: int) -> Json:
    return {
        "httpGet": {"path": "/api/healthz", "port": NODE_HEALTH},
        "periodSeconds": period_s,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _ready(values: Values) -> Json:
    probe: Json = {"periodSeconds": 2, "timeoutSeconds": 2, "failureThreshold": 3}
    if values.secrets.client_ca is not None:
        # Whoever probes has no certificate. The port is opened last, so that open means ready.
        return {"tcpSocket": {"port": "api"}, **probe}
    path = "/ready" if values.pages_at_api else "/health"
    scheme = "HTTP" if values.secrets.tls is None else "HTTPS"
    return {"httpGet": {"path": path, "port": "api", "scheme": scheme}, **probe}


def _leaving(values: Values, container: Json) -> Json:
    """Before the node ends, what runs there is drained, and goes on elsewhere."""
    command = ["/usr/local/bin/baton-leave", str(values.leave_s - 10)]
    return {**container, "lifecycle": {"preStop": {"exec": {"command": command}}}}


def _files(values: Values, part: str) -> tuple[list[Json], list[Json]]:
    if part == "head":
        return [], []
    secrets = values.secrets
    volumes: list[Json] = [{"name": "settings", "configMap": {"name": own.config_map(values)}}]
    mounts: list[Json] = [_mount("settings", own.FOLDER)]
    # Engines have nothing to show to clients, unless those read from them.
    front = part in FRONT_PARTS
    for name, secret, path, wanted in (
        ("keys", secrets.api_keys, own.KEYS, front),
        ("tls", secrets.tls, own.TLS, front or values.settings.router.direct),
        ("client-ca", secrets.client_ca, own.CLIENT_CA, front or values.settings.router.direct),
        ("cluster-tls", secrets.cluster_tls, own.CLUSTER_TLS, True),
    ):
        if secret is not None and wanted:
            volumes.append({"name": name, "secret": {"secretName": secret, "defaultMode": 0o440}})
            mounts.append(_mount(name, path))
    if values.model is not None:
        volumes.append({"name": "model", **_model_source(values)})
        mounts.append(_mount("model", own.MODEL))
    return volumes, mounts


def _mount(name: str, path: str, *, read_only: bool = True) -> Json:
    return {"name": name, "mountPath": path} | ({"readOnly": True} if read_only else {})


def _model_source(values: Values) -> Json:
    assert values.model is not None
    if values.model.claim is not None:
        return {"persistentVolumeClaim": {"claimName": values.model.claim, "readOnly": True}}
    return {"hostPath": {"path": values.model.host_path, "type": "Directory"}}


def _take(container: Json, more: Mapping[str, int | str]) -> None:
    for kind in ("requests", "limits"):
        found = {name: str(amount) for name, amount in more.items() if amount}
        container["resources"][kind] |= found


def _place(spec: Json, size: Pool) -> None:
    if size.node_selector:
        spec["nodeSelector"] = dict(size.node_selector)
    if size.tolerate:
        spec["tolerations"] = [{"key": key, "operator": "Exists"} for key in size.tolerate]


def _share_memory(spec: Json, size: Pool) -> None:
    """Engines with several ranks, NIXL and Ray exchange data there; without it they have 64 MiB."""
    memory = {"medium": "Memory", "sizeLimit": size.shm}
    spec["volumes"] = [*spec["volumes"], {"name": "shm", "emptyDir": memory}]
    container = spec["containers"][0]
    mount = _mount("shm", "/dev/shm", read_only=False)  # noqa: S108 (a mount, no file of ours)
    container["volumeMounts"] = [*container["volumeMounts"], mount]


def _spread(values: Values, part: str) -> list[Json]:
    """Over machines: one that is lost takes as little as possible along."""
    return [
        {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": labels(values, part)},
        }
    ]


def _near_each_other(values: Values) -> Json:
    """In one zone: KV goes between any two engines."""
    term = {"topologyKey": "topology.kubernetes.io/zone", "labelSelector": _any_engines(values)}
    weighted = [{"weight": 100, "podAffinityTerm": term}]
    return {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": weighted}}


def _any_engines(values: Values) -> Json:
    groups = {"key": "baton-part", "operator": "In", "values": list(values.groups)}
    return {"matchLabels": labels(values), "matchExpressions": [groups]}


def _reach_by_rdma(values: Values, spec: Json) -> None:
    rdma, container = values.rdma, spec["containers"][0]
    assert rdma is not None
    _take(container, {rdma.resource: rdma.count, "hugepages-2Mi": rdma.huge_pages or 0})
    # Registered memory is locked. Kubernetes gives added capabilities to root only.
    container["securityContext"] |= {
        "runAsUser": 0,
        "runAsNonRoot": False,
        "capabilities": {"drop": ["ALL"], "add": ["IPC_LOCK"]},
    }
    if rdma.huge_pages is not None:
        spec["volumes"].append({"name": "huge-pages", "emptyDir": {"medium": "HugePages"}})
        container["volumeMounts"].append(_mount("huge-pages", "/dev/hugepages", read_only=False))
    if rdma.host_network:
        spec["hostNetwork"] = True
        spec["dnsPolicy"] = "ClusterFirstWithHostNet"
        _alone_on_its_node(values, spec)


def _alone_on_its_node(values: Values, spec: Json) -> None:
    """On the node's network Ray's ports are there once; other pods have networks of their own."""
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": _any_engines(values)}
    spec["affinity"]["podAntiAffinity"] = {
        "requiredDuringSchedulingIgnoredDuringExecution": [term],
    }
