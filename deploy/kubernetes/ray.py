"""The RayCluster, as it is or inside a RayService."""

from __future__ import annotations

import math
from typing import Any

import yaml

from deploy.kubernetes import pods
from deploy.kubernetes.own_settings import resource_of
from deploy.kubernetes.pods import Json
from deploy.kubernetes.values import Values

REDIS_PORT = 6379
GATE = "deploy.kubernetes.gate:app"


def manifest(values: Values) -> Json:
    """What KubeRay is told."""
    if values.kind == "RayService":
        return _named(values, _service_spec(values))
    return _named(values, _cluster_spec(values))


def pods_of(values: Values, group: str) -> tuple[int, int]:
    """Fewest and most pods of a group of engines."""
    held, scaling = values.groups[group], values.settings.scaling
    per_pod = values.size_of(group).workers_per_pod
    # `baton scale` may ask for as many, whoever decides otherwise.
    most = {"prefill": scaling.prefill_max_workers, "decode": scaling.decode_max_workers}
    if scaling.mode == "auto":
        least = {"prefill": scaling.prefill_min_workers, "decode": scaling.decode_min_workers}
    else:
        least = {name: pool.workers for name, pool in held.items()}
    low = max(math.ceil(least[name] / per_pod) for name in held)
    high = max(math.ceil(most[name] / per_pod) for name in held)
    return (low, max(low, high)) if values.autoscales else (low, low)


def _named(values: Values, spec: Json) -> Json:
    metadata = pods.meta(values, values.name)
    return {"apiVersion": "ray.io/v1", "kind": values.kind, "metadata": metadata, "spec": spec}


def _cluster_spec(values: Values) -> Json:
    spec: Json = {
        "rayVersion": values.ray.version,
        "enableInTreeAutoscaling": values.autoscales,
        "headGroupSpec": {
            # Nothing is placed there, so that nothing of Baton falls with it.
            "rayStartParams": pods.ray_params({}, **{"dashboard-host": "0.0.0.0", "num-cpus": "0"}),  # noqa: S104
            "template": pods.head(values),
        },
        "workerGroupSpecs": [
            _group("controller", pods.controller(values), 1, 1, _marked("controller", 1)),
            _routers(values),
            *(_engines(values, group) for group in values.groups),
        ],
    }
    if values.autoscales:
        spec["autoscalerOptions"] = _autoscaler(values)
    if values.ray.token:
        spec["authOptions"] = {"mode": "token"}
    if values.ray.redis is not None:
        spec["gcsFaultToleranceOptions"] = _control_store(values)
    return spec


def _service_spec(values: Values) -> Json:
    """A change builds a second cluster; the first goes once Baton serves in the second."""
    return {
        "serveConfigV2": yaml.safe_dump(gate_config(values), sort_keys=False),
        "upgradeStrategy": {"type": "NewCluster"},
        "rayClusterDeletionDelaySeconds": values.leave_s,
        "excludeHeadPodFromServeSvc": True,
        # KubeRay wants one. Clients use Baton's own, which knows which pods have a router.
        "serveService": {
            "metadata": {"name": f"{values.name}-gate"},
            "spec": {"ports": [{"name": "serve", "port": values.settings.router.port}]},
        },
        "rayClusterConfig": _cluster_spec(values),
    }


def gate_config(values: Values) -> Json:
    """Ray Serve's configuration: one application, which is well while Baton serves."""
    args = {"cluster": values.name}
    if (folder := values.settings.cluster.run_dir) is not None:
        args["run_dir"] = folder
    return {
        # Its own servers would take the ports of routers.
        "proxy_location": "Disabled",
        "applications": [
            {
                "name": "baton",
                "import_path": GATE,
                "route_prefix": "/baton",
                "args": args,
            }
        ],
    }


def _routers(values: Values) -> Json:
    number = values.settings.router.routers
    # Room for one: a successor takes its predecessor's, see cluster/router_seats.py.
    return _group("router", pods.router(values), number, number, _marked("router", 1))


def _engines(values: Values, group: str) -> Json:
    low, high = pods_of(values, group)
    per_pod = values.size_of(group).workers_per_pod
    resources = {resource_of(pool): per_pod for pool in values.groups[group]}
    params = pods.ray_params(resources)
    return _group(group, pods.engines(values, group), low, high, params)


def _marked(part: str, amount: int) -> dict[str, str]:
    return pods.ray_params({resource_of(part): amount}, **{"num-cpus": "0"})


def _group(name: str, template: Json, low: int, high: int, params: dict[str, str]) -> Json:
    return {
        "groupName": name,
        "replicas": low,
        "minReplicas": low,
        "maxReplicas": high,
        "rayStartParams": params,
        "template": template,
    }


def _autoscaler(values: Values) -> Json:
    takes = {"cpu": "500m", "memory": "1Gi"}
    options: Json = {
        "version": "v2",
        "upscalingMode": "Default",
        "idleTimeoutSeconds": values.ray.idle_s,
        "imagePullPolicy": values.image.pull_policy,
        "resources": {"requests": dict(takes), "limits": dict(takes)},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    return options


def _control_store(values: Values) -> Json:
    redis = values.ray.redis
    assert redis is not None
    address = redis.address or f"{values.name}-redis:{REDIS_PORT}"
    password: dict[str, Any] = {"secretKeyRef": {"name": redis.secret, "key": "password"}}
    return {"redisAddress": f"redis://{address}", "redisPassword": {"valueFrom": password}}
