"""What may be chosen for Kubernetes, and what Baton is told in the end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from baton.errors import StartupError
from baton.settings import load
from baton.settings.keys import FIELDS
from deploy.kubernetes import own_settings, render
from deploy.kubernetes.profiles import PROFILES, checked, choose, merged
from deploy.kubernetes.values import IN_SECRETS


def refused(*single: str, profile: str = "laptop") -> str:
    with pytest.raises(StartupError) as caught:
        own_settings.as_text(choose(profile, None, single))
    return "\n".join(caught.value.details)


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_what_a_profile_tells_baton_is_valid(profile: str, tmp_path: Path) -> None:
    path = tmp_path / "baton.yaml"
    path.write_text(own_settings.as_text(choose(profile, None)))
    settings = load(path, {}).settings
    assert (settings.cluster.ray_address, settings.cluster.bind_host) == ("auto", "node")
    assert settings.router.host == "0.0.0.0"


def test_single_values_win_over_a_file_and_it_over_the_profile(tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text("name: x\nsettings: {decode: {workers: 3}, prefill: {workers: 2}}\n")
    values = choose("laptop", file, ["settings.decode.workers=4", "ray.token=false"])
    assert (values.name, values.ray.token) == ("x", False)
    assert (values.settings.prefill.workers, values.settings.decode.workers) == (2, 4)
    assert values.settings.engine.device == "cpu"


@pytest.mark.parametrize(
    ("single", "said"),
    [
        ("settings.decode.wrkers=3", "settings.decode.wrkers"),
        ("nonsense=1", "nonsense"),
        ("settings.decode.workers=0", "decode.workers is 0"),
        ("settings.engine.device=auto", "allowed: cpu or cuda"),
        ("settings.router.port=0", "a fixed port"),
        ("settings.cluster.bind_host=node", "it follows from the other values"),
        ("settings.router.port=8080", "the port of api is 8080, where Ray has its figures"),
        ("settings.router.port=8079", "the port of grpc is 8080, where Ray has its figures"),
        ("settings.router.grpc_port=52365", "the port of grpc is 52365, where Ray has its health"),
        ("settings.decode.accelerator_type=H100", "decode.node_selector"),
        ("settings.decode.cpus_per_worker=2", "decode.cpus is 1; its workers take 2"),
        ("model.folder=x", "one of claim and host_path"),
        ("head.memory=2", "head.memory"),
        ("name=Baton", "name"),
        ("decode", "not KEY=VALUE"),
        ("decode={", "no YAML value"),
    ],
)
def test_what_cannot_be_is_refused_by_name(single: str, said: str) -> None:
    assert said in refused(single)


def test_ports_of_tenants_are_not_rays_own() -> None:
    front = ("settings.router.front=rust", "settings.router.grpc=false")
    said = refused(*front, "settings.router.front_tenants={a: 9000, b: 8080}")
    assert "the port of tenant-1 is 8080" in said


@pytest.mark.parametrize("key", sorted(IN_SECRETS))
def test_files_are_named_by_secrets_only(key: str) -> None:
    said = refused(f"settings.{key}=/x", profile="one-gpu-node")
    assert f"settings.{key} is given; use secrets.{IN_SECRETS[key]}" in said
    assert "or none" not in said


def test_every_file_of_access_is_in_a_secret() -> None:
    paths = [key for key in FIELDS if key.startswith(("tls.", "access.")) and "_path" in key]
    assert sorted(paths) == sorted(IN_SECRETS)


def test_pods_of_a_pool_that_nobody_makes_have_no_values(tmp_path: Path) -> None:
    said = refused("prefill.memory=32Gi", profile="one-gpu-node")
    assert "prefill.memory is given" in said
    assert "together.memory" in said
    # Beside other problems; a profile's own pools are nobody's mistake.
    assert "decode.shm" in refused("together={cpus: 0}", "decode.shm=1Gi", profile="multi-node")
    assert choose("multi-node", None, ["together={cpus: 8}"]).groups.keys() == {"together"}
    file = tmp_path / "values.yaml"
    file.write_text("decode: {cpus: 4}\n")
    with pytest.raises(StartupError):
        choose("one-gpu-node", file)
    apart = choose("one-gpu-node", file, ["together=null", "prefill.cpus=4"])
    assert apart.decode.cpus == 4


def test_figures_that_nobody_could_read_are_refused() -> None:
    fleet = "multi-node"
    assert "monitoring.key" in refused("monitoring.key=null", profile=fleet)
    assert "certificate" in refused("secrets.client_ca=clients", profile=fleet)
    front = ("settings.router.front=python-processes", "secrets.tls=null")
    assert "in-process" in refused(*front, "secrets.api_keys=null", profile=fleet)


def test_policies_that_would_cut_engines_off_are_refused() -> None:
    on_nodes = "rdma={resource: rdma/hca, host_network: true}"
    assert "network.node_cidrs" in refused(on_nodes)
    assert choose("laptop", None, [on_nodes, "network.policies=false"]).on_node_network


@pytest.mark.parametrize("kind", ["LoadBalancer", "NodePort"])
def test_a_way_in_from_outside_that_admits_nobody_is_refused(kind: str) -> None:
    outside = f"network.service={kind}"
    assert "network.client_cidrs" in refused(outside)
    for more in ("network.client_cidrs=[0.0.0.0/0]", "network.policies=false"):
        assert choose("laptop", None, [outside, more]).network.service == kind


def test_scaling_without_pods_is_refused() -> None:
    off = "ray.autoscaler=off"
    assert "nobody would make the pods" in refused(off, profile="multi-node")
    assert choose("multi-node", None, [off, "settings.scaling.mode=manual"]).kind == "RayCluster"


def test_direct_streams_that_policies_would_stop_are_refused() -> None:
    direct = "settings.router.direct=true"
    assert "settings.router.direct" in refused(direct)
    assert choose("laptop", None, [direct, "network.policies=false"]).settings.router.direct


def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    for text in ("[1]", "a: {"):
        (tmp_path / "values.yaml").write_text(text)
        with pytest.raises(StartupError):
            choose("laptop", tmp_path / "values.yaml")
    with pytest.raises(StartupError):
        choose("laptop", tmp_path / "missing.yaml")


def test_trees_are_merged_and_null_removes() -> None:
    below = {"a": {"b": 1, "c": 2}, "d": 3}
    assert merged(below, {"a": {"b": None}, "d": {"e": 4}}) == {
        "a": {"b": None, "c": 2},
        "d": {"e": 4},
    }
    assert below == {"a": {"b": 1, "c": 2}, "d": 3}


def test_gpus_are_those_of_a_pods_workers() -> None:
    tree = {"settings": {"engine": {"device": "cuda", "tensor_parallel_size": 2}}}
    assert checked({**tree, "decode": {"workers_per_pod": 2, "cpus": 2}}).gpus_of("decode") == 4
    half = {"gpus_per_worker": 0.5, "cpus_per_worker": 0.5}
    card = {"settings": {"engine": {"device": "cuda"}, "prefill": half, "decode": half}}
    assert checked({**card, "together": {}}).gpus_of("together") == 1


def test_the_schema_has_every_setting_of_batons() -> None:
    schema = json.loads(render.schema())
    sections = schema["$defs"]["Settings"]["properties"]
    for key in FIELDS:
        section, _, name = key.partition(".")
        kind = sections[section]["$ref"].rpartition("/")[2]
        assert name in schema["$defs"][kind]["properties"]


def test_files_of_secrets_are_where_settings_say() -> None:
    tree = yaml.safe_load(own_settings.as_text(choose("multi-node", None)))
    assert tree["access"] == {"keys_path": "/etc/baton-keys/keys.json"}
    assert tree["tls"]["cluster_ca_path"] == "/etc/baton-cluster-tls/ca.crt"
    assert tree["model"] == {"path": "/model/my-model"}


def test_a_changed_setting_changes_what_pods_are_marked_with() -> None:
    marks = {own_settings.digest(choose("laptop", None, single)) for single in (
        [], ["settings.slo.ttft_s=1"], ["settings.slo.ttft_s=2"], ["head.cpus=2"],
    )}  # fmt: skip
    assert len(marks) == 3
