"""Choices to start from, and how they, a file and single values become `Values`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from baton.errors import StartupError, StartupFault
from baton.settings import yaml12
from deploy.kubernetes.values import Values

_ON_GPUS = {"engine": {"device": "cuda", "start_timeout_s": 1200}}
_SPREAD: dict[str, Any] = {
    "router": {"cpus": 4, "memory": "8Gi"},
    "prefill": {"cpus": 8, "memory": "64Gi", "shm": "16Gi", "tolerate": ["nvidia.com/gpu"]},
    "decode": {"cpus": 8, "memory": "64Gi", "shm": "16Gi", "tolerate": ["nvidia.com/gpu"]},
    "head": {"cpus": 2, "memory": "8Gi"},
    "controller": {"cpus": 1, "memory": "4Gi"},
    "model": {"claim": "models", "folder": "my-model"},
    "ray": {"redis": {}},
    "monitoring": {},
    "secrets": {"api_keys": "baton-keys", "tls": "baton-tls", "cluster_tls": "baton-cluster-tls"},
}
_FLEET: dict[str, Any] = {
    **_ON_GPUS,
    "router": {"routers": 2},
    "prefill": {"workers": 2, "cpus_per_worker": 4},
    "decode": {"workers": 2, "cpus_per_worker": 4},
    "scaling": {"mode": "auto", "prefill_max_workers": 4, "decode_max_workers": 8},
    "kv_transfer": {"min_gb_per_second": 1.0},
}
_MONITORED = {**_SPREAD, "monitoring": {"key": "baton-prometheus-key"}}
PROFILES: Mapping[str, Mapping[str, Any]] = {
    # kind or minikube: everything small, the demo model, nothing to prepare but the image.
    "laptop": {
        "head": {"memory": "2Gi"},
        "controller": {"memory": "2Gi"},
        "router": {"memory": "3Gi"},
        "prefill": {"memory": "5Gi", "shm": "1Gi"},
        "decode": {"memory": "5Gi", "shm": "1Gi"},
        "settings": {"engine": {"device": "cpu", "cpu_threads": 1}},
    },
    # Both pools in one pod, so that KV goes from GPU to GPU without leaving the machine.
    "one-gpu-node": {
        "router": {"cpus": 2, "memory": "4Gi"},
        "controller": {"memory": "4Gi"},
        "together": {
            "cpus": 8,
            "memory": "64Gi",
            "shm": "16Gi",
            "tolerate": ["nvidia.com/gpu"],
        },
        "model": {"host_path": "/srv/models", "folder": "my-model"},
        "settings": {
            **_ON_GPUS,
            "prefill": {"cpus_per_worker": 4},
            "decode": {"cpus_per_worker": 4},
        },
    },
    "multi-node": {**_MONITORED, "settings": _FLEET},
    "rdma": {
        **_MONITORED,
        "kind": "RayService",
        "rdma": {"resource": "rdma/hca", "huge_pages": "2Gi", "net_devices": "mlx5_0:1"},
        "settings": {**_FLEET, "kv_transfer": {"min_gb_per_second": 5.0}},
    },
}


def choose(profile: str, file: Path | None, single: Sequence[str] = ()) -> Values:
    """A profile, changed by a YAML file and then by single values (KEY=VALUE, dotted).

    Raises StartupError SETTINGS_INVALID with every problem.
    """
    given = [] if file is None else [_read(file)]
    given += [_single(text) for text in single]
    tree = dict(PROFILES[profile])
    for above in given:
        tree = merged(tree, above)
    return checked(tree, [] if tree.get("together") is None else _unread(given))


def checked(tree: Mapping[str, Any], known: Sequence[str] = ()) -> Values:
    """The values of a tree. Raises StartupError SETTINGS_INVALID with every problem, those that are
    known already among them."""
    try:
        values = Values.model_validate(tree)
    except ValidationError as error:
        found = [
            f"{'.'.join(map(str, one['loc'])) or 'values'}: {one['msg']}" for one in error.errors()
        ]
        raise invalid(*known, *found) from error
    if known:
        raise invalid(*known)
    return values


def _unread(given: Sequence[Mapping[str, Any]]) -> list[str]:
    """Keys of the pools' own pods, where pods hold both. A profile's own are no mistake."""
    sizes = [(pool, tree.get(pool)) for tree in given for pool in ("prefill", "decode")]
    return [
        f"{pool}.{key} is given, and together, too: then nothing reads it; "
        f"allowed: together.{key}, or together null"
        for pool, size in sizes
        if isinstance(size, Mapping)
        for key in size
    ]


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two trees; `above` wins, and null in it removes."""
    found = dict(below)
    for key, value in above.items():
        old = found.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        found[key] = merged(old, value) if both else value  # type: ignore[arg-type]
    return found


def _read(file: Path) -> Mapping[str, Any]:
    try:
        found = yaml12.parse(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise invalid(f"{file}: cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(found, Mapping):
        raise invalid(f"{file}: not a mapping")
    return found


def _single(text: str) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not all(key.split(".")):
        raise invalid(f"--set {text}: not KEY=VALUE")
    try:
        found: Any = yaml12.parse(value)
    except yaml.YAMLError as error:
        raise invalid(f"--set {text}: {value!r} is no YAML value") from error
    for name in reversed(key.split(".")):
        found = {name: found}
    return dict(found)


def invalid(*problems: str) -> StartupError:
    """The refusal of values, with what is wrong with them."""
    count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
    hint = "`baton deploy schema` lists all values; docs/kubernetes.md explains them."
    return StartupError(
        StartupFault.SETTINGS_INVALID, f"values: {count}", details=problems, hint=hint
    )
