"""Whether manifests agree with Baton: its settings, its command line, its ports, what its workers
ask of Ray; and with each other. Documents in, sentences about problems out.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import logging
import re
import shlex
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from manifest_schemas import templates

from baton.errors import StartupError
from baton.ids import RouterId, WorkerId
from baton.messages import Role
from baton.settings import Settings, load
from cluster.ports import Placement
from deploy import parser
from deploy.kubernetes.pods import FRONT_PARTS
from deploy.kubernetes.values import NODE_HEALTH
from deploy.serve import Classes, router_spec, worker_spec
from router import access

Json = dict[str, Any]
SCRIPTS = {"baton-controller": "serve", "baton-leave": None}
"""Programs of the image, and the command of Baton's that their arguments are for."""
_RAY_PORTS = frozenset({8265, 52365})
"""Ray's own, which stand in no setting of Baton's: the dashboard, and each node's health."""
_AGENT = "dashboard/modules/reporter/healthz_agent.py"
_WITH_PAGES = frozenset({"auto", "in-process"})


def of_kind(documents: Iterable[Json], *kinds: str) -> list[Json]:
    """The manifests of some kinds."""
    return [document for document in documents if document.get("kind") in kinds]


def own_settings(documents: Iterable[Json]) -> tuple[Settings | None, list[str]]:
    """The settings that Baton is given, by Baton's own loader, and what is wrong with them."""
    for document in of_kind(documents, "ConfigMap"):
        if (text := document.get("data", {}).get("baton.yaml")) is not None:
            return _loaded(text)
    return None, ["no ConfigMap has a baton.yaml"]


def _loaded(text: str) -> tuple[Settings | None, list[str]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "baton.yaml"
        path.write_text(text, encoding="utf-8")
        try:
            return load(path, {}).settings, []
        except StartupError as error:
            return None, [detail.replace(f"{folder}/", "") for detail in error.details]


# --- commands -------------------------------------------------------------------------------------


def commands(documents: Iterable[Json]) -> Iterator[list[str]]:
    """Every command that a container of the cluster is given."""
    for document in of_kind(documents, "RayCluster", "RayService"):
        for template in templates(document):
            for container in template["spec"]["containers"]:
                if "command" in container:
                    yield [*container["command"], *container.get("args", [])]
                hook = container.get("lifecycle", {}).get("preStop", {}).get("exec", {})
                if hook:
                    yield hook["command"]


def command_problems(documents: list[Json], programs: Path) -> list[str]:
    """Commands of unknown programs, or with arguments that Baton's own parser refuses."""
    found = []
    for program, *arguments in commands(documents):
        name = Path(program).name
        if name not in SCRIPTS or not (programs / name).is_file():
            found.append(f"command {program}: the image has no such program")
        elif (command := SCRIPTS[name]) is not None and (wrong := _refused([command, *arguments])):
            found.append(f"command {name} {' '.join(arguments)}: {wrong}")
        elif command is None and not all(text.isdecimal() for text in arguments):
            found.append(f"command {name} {' '.join(arguments)}: it takes seconds")
    return found


def _refused(words: list[str]) -> str:
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.suppress(argparse.ArgumentError):
        try:
            parser.build().parse_args(words)
        except SystemExit:
            return said.getvalue().strip().splitlines()[-1]
    return ""


# --- ports ----------------------------------------------------------------------------------------


def api_ports(settings: Settings) -> set[int]:
    """Where clients are served, by the settings."""
    router = settings.router
    found = {router.port, router.grpc_port_wanted, *router.front_tenants.values()}
    return {port for port in found if port}


def port_problems(documents: list[Json], settings: Settings) -> list[str]:
    """Ports of pods, services, probes, policies and addresses that are not in the settings."""
    pods = _pods(documents)
    served = {name: port for name, port in _named_ports(pods).items() if name not in _RAY_NAMES}
    found = [
        f"pods: the port {name} is {port}; the settings have {sorted(api_ports(settings))}"
        for name, port in served.items()
        if port not in api_ports(settings)
    ]
    found += [*_service_problems(documents, pods), *_probe_problems(pods, settings)]
    found += [*_policy_problems(documents, settings), *_address_problems(documents, settings)]
    return found


_RAY_NAMES = frozenset({"gcs", "dashboard", "metrics", "redis"})


def _pods(documents: list[Json]) -> list[Json]:
    kinds = ("RayCluster", "RayService", "StatefulSet")
    return [template for one in of_kind(documents, *kinds) for template in templates(one)]


def _named_ports(pods: Iterable[Json]) -> dict[str, int]:
    return {
        port["name"]: port["containerPort"]
        for pod in pods
        for container in pod["spec"]["containers"]
        for port in container.get("ports", [])
    }


def _selected(pods: list[Json], selector: Mapping[str, str]) -> list[Json]:
    return [pod for pod in pods if selector.items() <= pod["metadata"]["labels"].items()]


def _service_problems(documents: list[Json], pods: list[Json]) -> Iterator[str]:
    for service in of_kind(documents, "Service"):
        named = _named_ports(_selected(pods, service["spec"]["selector"]))
        for port in service["spec"]["ports"]:
            target = port.get("targetPort", port["port"])
            number = named.get(target) if isinstance(target, str) else target
            if number not in named.values() or number != port["port"]:
                name = service["metadata"]["name"]
                yield f"Service {name}: port {port['port']} ({target}) is no port of its pods"


def _probe_problems(pods: list[Json], settings: Settings) -> Iterator[str]:
    for pod in pods:
        for container in pod["spec"]["containers"]:
            named = _named_ports([pod])
            for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
                action = next(iter(_actions(container.get(kind, {}))), {})
                port: Any = action.get("port")
                known = {*named, *named.values(), *_RAY_PORTS, *api_ports(settings)}
                if port not in known | {None}:
                    yield f"{container['name']}: {kind} asks the port {port}, which nobody opens"
                path = action.get("path")
                if path is not None and path not in _pages(named.get(port, port), settings):
                    yield f"{container['name']}: {kind} asks {path}, which nobody answers at {port}"


def _pages(port: int, settings: Settings) -> Collection[str]:
    """What is answered without a key, which no probe has."""
    if port == NODE_HEALTH:
        return _rays_pages()
    if port != settings.router.port:
        return ()
    return access._UNLOCKED if settings.router.front in _WITH_PAGES else {"/health"}  # noqa: SLF001


@cache
def _rays_pages() -> frozenset[str]:
    """Where the agent of a node says how it is, by Ray's own source: it has no table of them."""
    ray = importlib.util.find_spec("ray")
    assert ray is not None
    assert ray.origin is not None
    text = (Path(ray.origin).parent / _AGENT).read_text(encoding="utf-8")
    return frozenset(re.findall(r'@routes\.get\("([^"]+)"\)', text))


def _actions(probe: Json) -> list[Json]:
    return [probe[kind] for kind in ("httpGet", "tcpSocket") if kind in probe]


def _policy_problems(documents: list[Json], settings: Settings) -> Iterator[str]:
    redis = {port for name, port in _named_ports(_pods(documents)).items() if name == "redis"}
    known = api_ports(settings) | _RAY_PORTS | redis
    for policy in of_kind(documents, "NetworkPolicy"):
        for rule in policy["spec"]["ingress"]:
            for port in rule.get("ports", []):
                if port["port"] not in known:
                    name = policy["metadata"]["name"]
                    yield f"NetworkPolicy {name}: port {port['port']} is in no setting"


def _address_problems(documents: list[Json], settings: Settings) -> Iterator[str]:
    services = {one["metadata"]["name"] for one in of_kind(documents, "Service")}
    for scrape in of_kind(documents, "ScrapeConfig"):
        for discovery in scrape["spec"]["httpSDConfigs"]:
            url = urlsplit(discovery["url"])
            host = (url.hostname or "").partition(".")[0]
            if url.port != settings.router.port or host not in services:
                yield f"ScrapeConfig: {discovery['url']} is not where routers are"
            if url.scheme != settings.tls.scheme:
                yield f"ScrapeConfig: {discovery['url']} should be {settings.tls.scheme}"


# --- what belongs together ------------------------------------------------------------------------


def selector_problems(documents: list[Json]) -> list[str]:
    """Selectors that select nothing."""
    pods, found = _pods(documents), []
    for document in of_kind(
        documents, "Service", "NetworkPolicy", "PodDisruptionBudget", "PodMonitor"
    ):
        spec = document["spec"]
        selector = spec.get("podSelector") or spec["selector"]
        if not _selected(pods, selector.get("matchLabels", selector)):
            what = f"{document['kind']} {document['metadata']['name']}"
            found.append(f"{what}: its selector selects no pod")
    return found


def file_problems(documents: list[Json], settings: Settings) -> list[str]:
    """Files in the settings that are in no volume of a pod that reads them."""
    everywhere, front = [settings.model.path], [settings.access.keys_path]
    for name, value in settings.tls.model_dump().items():
        if name.endswith("_path"):
            (everywhere if name.startswith("cluster_") else front).append(value)
    found = []
    for pod in _pods(of_kind(documents, "RayCluster", "RayService")):
        part = pod["metadata"]["labels"]["baton-part"]
        mounts = [m["mountPath"] for m in pod["spec"]["containers"][0]["volumeMounts"]]
        found += [
            f"{part}: {path} is in no volume of the pod"
            for path in filter(None, everywhere + (front if part in FRONT_PARTS else []))
            if part != "head" and not any(Path(path).is_relative_to(mount) for mount in mounts)
        ]
    return found


def room_problems(documents: list[Json], settings: Settings) -> list[str]:
    """Workers and routers that fit into no pod, as Ray's own autoscaler reads the manifests."""
    from ray.autoscaler._private.kuberay import autoscaling_config as kuberay

    logging.getLogger("ray").setLevel(logging.ERROR)
    found = []
    for document in of_kind(documents, "RayCluster", "RayService"):
        cluster = {"metadata": document["metadata"], "spec": _cluster(document)}
        config = kuberay._derive_autoscaling_config_from_ray_cr(cluster)  # noqa: SLF001
        rooms = [node["resources"] for node in config["available_node_types"].values()]
        for who, needs in _needs(settings):
            if not any(_fits(needs, room) for room in rooms):
                found.append(f"{who} takes {needs}; no group of pods has that")
    return found


def start_problems(documents: list[Json]) -> list[str]:
    """Resources that KubeRay or the shell cannot read, where Ray's autoscaler perhaps can. KubeRay
    goes on without them, and tells the node of no GPU."""
    found = []
    for document in of_kind(documents, "RayCluster", "RayService"):
        for group in _cluster(document)["workerGroupSpecs"]:
            text = group["rayStartParams"].get("resources", "{}")
            # As KubeRay does it: getResourcesMap in ray-operator/controllers/ray/common/pod.go.
            trimmed = text.strip("'\"` ")
            if not _is_numbers(trimmed):
                found.append(f"{group['groupName']}: KubeRay cannot read the resources {text}")
            elif _words(text) != [trimmed]:
                found.append(f"{group['groupName']}: the shell changes the resources {text}")
    return found


def _cluster(document: Json) -> Json:
    found: Json = document["spec"].get("rayClusterConfig", document["spec"])
    return found


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return []


def _is_numbers(text: str) -> bool:
    try:
        found = json.loads(text)
    except ValueError:
        return False
    return isinstance(found, dict) and all(isinstance(n, (int, float)) for n in found.values())


def _needs(settings: Settings) -> Iterator[tuple[str, Mapping[str, float]]]:
    device = settings.engine.device
    classes = Classes(object, object, "", "", device)
    for role in Role:
        placement = Placement(WorkerId(f"{role.value}-0"), role, 1, 0)
        yield role.value, worker_spec(settings, classes, placement, joined=True).needs
    yield "router", router_spec(settings, classes, RouterId("router-0"), joined=True).needs


def _fits(needs: Mapping[str, float], room: Mapping[str, float]) -> bool:
    return all(room.get(name, 0) >= amount for name, amount in needs.items())


def documents_of(text: str) -> list[Json]:
    """The manifests in a text."""
    return [one for one in yaml.safe_load_all(text) if one is not None]
