"""A Redis for Ray's control store, so that the cluster survives Ray's head."""

from __future__ import annotations

from deploy.kubernetes.pods import Json, labels, meta
from deploy.kubernetes.ray import REDIS_PORT
from deploy.kubernetes.values import Redis, Values

_USER = 999
_START = 'exec redis-server --requirepass "$REDIS_PASSWORD" --appendonly yes --dir /data'


def manifests(values: Values) -> list[Json]:
    """Its service and its one pod with a volume; none if Ray has no Redis, or another one."""
    redis = values.ray.redis
    if redis is None or redis.address is not None:
        return []
    name, selector = f"{values.name}-redis", _selector(values)
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta(values, name),
        "spec": {"selector": selector, "ports": [{"name": "redis", "port": REDIS_PORT}]},
    }
    found = [service, _store(values, redis, name)]
    return [*found, _policy(values, name)] if values.network.policies else found


def _selector(values: Values) -> Json:
    # Not of the cluster's pods: whoever reaches them need not reach this.
    return {"baton-redis": values.name}


def _store(values: Values, redis: Redis, name: str) -> Json:
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": meta(values, name),
        "spec": {
            "serviceName": name,
            "replicas": 1,
            "selector": {"matchLabels": _selector(values)},
            "template": {
                "metadata": {"labels": _selector(values)},
                "spec": {
                    "automountServiceAccountToken": False,
                    "securityContext": {
                        "runAsNonRoot": True,
                        "runAsUser": _USER,
                        "fsGroup": _USER,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [_container(redis)],
                },
            },
            "volumeClaimTemplates": [_claim(redis)],
        },
    }


def _container(redis: Redis) -> Json:
    secret = {"secretKeyRef": {"name": redis.secret, "key": "password"}}
    takes = {"cpu": "250m", "memory": "512Mi"}
    alive = {"tcpSocket": {"port": "redis"}, "periodSeconds": 10}
    return {
        "name": "redis",
        "image": redis.image,
        "command": ["/bin/sh", "-c", _START],
        "env": [{"name": "REDIS_PASSWORD", "valueFrom": secret}],
        "ports": [{"name": "redis", "containerPort": REDIS_PORT}],
        "resources": {"requests": dict(takes), "limits": dict(takes)},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "livenessProbe": dict(alive),
        "readinessProbe": dict(alive),
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }


def _claim(redis: Redis) -> Json:
    return {
        "metadata": {"name": "data"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": redis.storage}},
        },
    }


def _policy(values: Values, name: str) -> Json:
    # Ray's head, and what KubeRay cleans up with afterwards: that pod is made from the head's.
    head = {"podSelector": {"matchLabels": labels(values, "head")}}
    ports = [{"protocol": "TCP", "port": REDIS_PORT}]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": meta(values, name),
        "spec": {
            "podSelector": {"matchLabels": _selector(values)},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [head], "ports": ports}],
        },
    }
