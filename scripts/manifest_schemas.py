"""Whether manifests are what Kubernetes, KubeRay and the Prometheus operator read. Strict: a field
that they do not know is a problem, also deep inside a pod.

Kubernetes' schemas come with kubernetes-validate, KubeRay's are its custom resource definitions.
The Prometheus operator's are so large that only what is used of them is written down here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import yaml
from referencing import Registry, Resource

KUBERNETES = "1.37"
_DEFINITIONS = "/api/_definitions.json"
_SHOWN_MAX = 20
Json = dict[str, Any]


class MissingError(Exception):
    """A tool or a file that the check needs is not here; says how to get it."""


def problems(document: Json, crds: Path) -> list[str]:
    """What is wrong with one manifest; `crds` is the folder of KubeRay's definitions."""
    kind = document.get("kind", "")
    if kind in {"RayCluster", "RayService"}:
        found = [*_errors(_kuberay(crds, kind), document)]
        for template in templates(document):
            pod = {"apiVersion": "v1", "kind": "Pod", **template}
            found += _errors(_core("v1", "Pod"), pod)
    elif kind in _MONITORING:
        found = [*_errors(_MONITORING[kind], document)]
    elif kind == "Kustomization":
        found = []
    else:
        found = [*_errors(_core(document.get("apiVersion", ""), kind), document)]
    name = document.get("metadata", {}).get("name", "")
    return [f"{kind} {name}: {text}" for text in found[:_SHOWN_MAX]]


def templates(document: Json) -> list[Json]:
    """The pod templates in a manifest of KubeRay or of Kubernetes."""
    spec = document.get("spec", {})
    cluster = spec.get("rayClusterConfig", spec)
    groups = [cluster.get("headGroupSpec", {}), *cluster.get("workerGroupSpecs", [])]
    found = [group["template"] for group in groups if "template" in group]
    return found if found else [spec["template"]] if "template" in spec else []


def _errors(schema: Json, document: Json) -> Iterator[str]:
    validator = jsonschema.Draft202012Validator(schema, registry=_registry())
    for error in sorted(validator.iter_errors(document), key=lambda one: list(map(str, one.path))):
        where = ".".join(map(str, error.absolute_path))
        yield f"{where or 'document'}: {error.message[:200]}"


# --- Kubernetes' own ------------------------------------------------------------------------------


@cache
def _folder() -> Path:
    spec = find_spec("kubernetes_validate")
    if spec is None or not spec.submodule_search_locations:
        raise MissingError("kubernetes-validate is missing: pip install kubernetes-validate")
    root = Path(spec.submodule_search_locations[0]) / "kubernetes-json-schema"
    return root / f"v{KUBERNETES}.0-local-strict"


@cache
def _registry() -> Any:
    definitions = json.loads((_folder() / "_definitions.json").read_text(encoding="utf-8"))
    resource = Resource.from_contents(definitions)
    # Crawled once here, else with every validation, which takes seconds.
    return Registry().with_resource(_DEFINITIONS, resource).crawl()


@cache
def _core(api_version: str, kind: str) -> Json:
    group, _, version = api_version.rpartition("/")
    names = [kind, group.partition(".")[0], version]
    path = _folder() / ("-".join(name.lower() for name in names if name) + ".json")
    if not path.is_file():
        return {"not": {}, "description": f"Kubernetes {KUBERNETES} has no {api_version} {kind}"}
    found: Json = json.loads(path.read_text(encoding="utf-8"))
    return found


# --- KubeRay's ------------------------------------------------------------------------------------


@cache
def _kuberay(crds: Path, kind: str) -> Json:
    path = crds / f"ray.io_{kind.lower()}s.yaml"
    if not path.is_file():
        raise MissingError(
            f"{path} is missing: it is in helm-chart/kuberay-operator/crds of KubeRay's sources; "
            "name its folder with --schemas"
        )
    definition = yaml.load(path.read_text(encoding="utf-8"), Loader=_loader())  # noqa: S506
    versions = {one["name"]: one for one in definition["spec"]["versions"]}
    schema: Json = _strict(versions["v1"]["schema"]["openAPIV3Schema"])
    return schema


def _loader() -> Any:
    # A megabyte of YAML takes the loader in Python ten seconds.
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _strict(schema: Any) -> Any:
    """The same schema, in which objects have no other fields than those that it names."""
    if isinstance(schema, list):
        return [_strict(one) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    found = {key: _strict(value) for key, value in schema.items()}
    named = isinstance(schema.get("properties"), Mapping)
    free = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if named and not free:
        found["additionalProperties"] = False
    return found


# --- the Prometheus operator's --------------------------------------------------------------------


def _object(required: tuple[str, ...] = (), **properties: Any) -> Json:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _list(items: Json) -> Json:
    return {"type": "array", "items": items, "minItems": 1}


_TEXT: Json = {"type": "string", "minLength": 1}
_DURATION: Json = {"type": "string", "pattern": r"^([0-9]+(ms|[smhdwy]))+$"}
_TEXTS: Json = {"type": "object", "additionalProperties": {"type": "string"}}
_SECRET_KEY = _object(("name", "key"), name=_TEXT, key=_TEXT)
_RULE = _object(
    ("expr",),
    **{"for": _DURATION, "alert": _TEXT, "record": _TEXT, "expr": _TEXT},
    labels=_TEXTS,
    annotations=_TEXTS,
)
_DISCOVERY = _object(
    ("url",),
    url={"type": "string", "pattern": "^https?://"},
    refreshInterval=_DURATION,
    authorization=_object(("credentials",), type=_TEXT, credentials=_SECRET_KEY),
    tlsConfig=_object((), ca=_object(("secret",), secret=_SECRET_KEY), serverName=_TEXT),
)


def _monitoring(version: str, kind: str, spec: Json) -> Json:
    group = {"const": f"monitoring.coreos.com/{version}"}
    return _object(
        ("apiVersion", "kind", "metadata", "spec"),
        apiVersion=group,
        kind={"const": kind},
        metadata=_object(("name",), name=_TEXT, namespace=_TEXT, labels=_TEXTS),
        spec=spec,
    )


_MONITORING: Mapping[str, Json] = {
    "PodMonitor": _monitoring(
        "v1",
        "PodMonitor",
        _object(
            ("selector", "podMetricsEndpoints"),
            selector=_object(("matchLabels",), matchLabels=_TEXTS),
            podTargetLabels=_list(_TEXT),
            podMetricsEndpoints=_list(_object(("port",), port=_TEXT, interval=_DURATION)),
        ),
    ),
    "ScrapeConfig": _monitoring(
        "v1alpha1",
        "ScrapeConfig",
        _object(("httpSDConfigs",), scrapeInterval=_DURATION, httpSDConfigs=_list(_DISCOVERY)),
    ),
    "PrometheusRule": _monitoring(
        "v1",
        "PrometheusRule",
        _object(
            ("groups",), groups=_list(_object(("name", "rules"), name=_TEXT, rules=_list(_RULE)))
        ),
    ),
}
