"""What a pod has, how many of them may be away, and how clients come to them."""

from __future__ import annotations

import pytest

from tests.unit.deploy.kubernetes.test_render import manifests, part


def test_clients_beyond_the_cluster_come_with_their_own_addresses() -> None:
    outside = ("network.service=LoadBalancer", "network.client_cidrs=[203.0.113.0/24]")
    (service, *_) = (d for d in manifests("multi-node", *outside) if d["kind"] == "Service")
    assert service["spec"]["externalTrafficPolicy"] == "Local"
    (service, *_) = (d for d in manifests("multi-node") if d["kind"] == "Service")
    assert "externalTrafficPolicy" not in service["spec"]


@pytest.mark.parametrize(
    ("single", "least"),
    [
        ("settings.scaling.mode=manual", 2),
        ("settings.scaling.decode_min_workers=2", 1),
        # The scaling law may leave one, and that one has to be movable.
        ("settings.scaling.decode_min_workers=1", None),
    ],
)
def test_one_of_the_fewest_pods_of_a_pool_may_be_away(single: str, least: int | None) -> None:
    found = {
        d["metadata"]["name"]: d["spec"]["minAvailable"]
        for d in manifests("multi-node", "settings.decode.workers=3", single)
        if d["kind"] == "PodDisruptionBudget"
    }
    assert found.get("baton-decode") == least
    assert found["baton-router"] == 1


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
