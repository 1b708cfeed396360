"""What a pod has, how many of them may be away, and how clients come to them."""

from __future__ import annotations

from tests.unit.deploy.kubernetes.test_render import manifests, part


def test_clients_beyond_the_cluster_come_with_their_own_addresses() -> None:
    outside = ("network.service=LoadBalancer", "network.client_cidrs=[203.0.113.0/24]")
    (service, *_) = (d for d in manifests("multi-node", *outside) if d["kind"] == "Service")
    assert service["spec"]["externalTrafficPolicy"] == "Local"
    (service, *_) = (d for d in manifests("multi-node") if d["kind"] == "Service")
    assert "externalTrafficPolicy" not in service["spec"]


def test_one_of_the_workers_that_a_cluster_begins_with_may_be_away() -> None:
    found = {
        d["metadata"]["name"]: d["spec"]["minAvailable"]
        for d in manifests("multi-node", "settings.decode.workers=3")
        if d["kind"] == "PodDisruptionBudget"
    }
    assert found["baton-decode"] == 2


def test_engines_have_no_key_of_the_front_door() -> None:
    def mounted(which: str, *more: str) -> set[str]:
        spec = part(manifests("multi-node", *more), which)
        return {mount["name"] for mount in spec["containers"][0]["volumeMounts"]}

    assert {"keys", "tls", "cluster-tls"} <= mounted("router")
    assert not {"keys", "tls"} & mounted("decode")
    assert "cluster-tls" in mounted("decode")
    read = mounted("decode", "settings.router.direct=true", "network.policies=false")
    assert "tls" in read
    assert "keys" not in read
