"""All manifests of a cluster, as the files of a kustomize base."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from deploy.kubernetes import monitoring, network, own_settings, pods, ray, redis
from deploy.kubernetes.pods import Json
from deploy.kubernetes.values import Values

BASE = "kustomization.yaml"
_NAMES = ("settings", "ray", "services", "policies", "budgets", "redis", "monitors", "dashboards")
_HEADER = "# Written by `baton deploy render`: change the values, or patch it in an overlay.\n"


def manifests(values: Values) -> dict[str, list[Json]]:
    """By file, without its ending; files that would be empty are left out."""
    found = dict(
        zip(
            _NAMES,
            (
                [_settings(values)],
                [ray.manifest(values)],
                network.services(values),
                network.policies(values),
                network.budgets(values),
                redis.manifests(values),
                monitoring.monitors(values),
                monitoring.dashboards(values),
            ),
            strict=True,
        )
    )
    return {name: listed for name, listed in found.items() if listed}


def files(values: Values) -> dict[str, str]:
    """Names and contents, the kustomize base among them."""
    found = {f"{name}.yaml": as_yaml(*listed) for name, listed in manifests(values).items()}
    base = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": values.namespace,
        "resources": list(found),
    }
    return {**found, BASE: as_yaml(base)}


def as_one(values: Values) -> str:
    """All of it in one text, for `kubectl apply -f -`."""
    return as_yaml(*(one for listed in manifests(values).values() for one in listed))


def write(values: Values, folder: Path) -> list[Path]:
    """Writes the files into a folder, which is made, in place of earlier ones. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in _NAMES:
        (folder / f"{name}.yaml").unlink(missing_ok=True)
    written = []
    for name, text in files(values).items():
        (folder / name).write_text(text, encoding="utf-8")
        written.append(folder / name)
    return written


def schema() -> str:
    """The JSON schema of values; that of `settings` in it is made from Baton's own settings."""
    return json.dumps(Values.model_json_schema(), indent=2) + "\n"


def as_yaml(*documents: Mapping[str, Any]) -> str:
    """Some documents in one text."""
    return _HEADER + "".join(
        f"---\n{yaml.dump(one, Dumper=_Dumper, sort_keys=False, width=2**31)}" for one in documents
    )


class _Dumper(yaml.SafeDumper):
    """Lists are indented, and texts of several lines are written as such."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def _settings(values: Values) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": pods.meta(values, own_settings.config_map(values)),
        "data": {"baton.yaml": own_settings.as_text(values)},
    }
