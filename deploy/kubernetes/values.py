"""What can be chosen for a cluster on Kubernetes. Frozen and strict, as Baton's own settings are.

`settings` holds those themselves, so that the schema of the values is made from theirs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from baton.settings import PoolSettings, Settings
from baton.settings.section import Section

Quantity = Annotated[str, Field(pattern=r"^[1-9][0-9]*(Mi|Gi|Ti)$")]
Name = Annotated[str, Field(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
Labels = dict[str, str]
NODE_HEALTH = 52365
"""Where each of Ray's nodes says that it is well."""
RAY_METRICS = 8080
"""Where each of Ray's nodes has its own figures."""
IN_SECRETS: Mapping[str, str] = {
    "access.keys_path": "api_keys",
    "tls.cert_path": "tls",
    "tls.key_path": "tls",
    "tls.client_ca_path": "client_ca",
    "tls.cluster_ca_path": "cluster_tls",
    "tls.cluster_cert_path": "cluster_tls",
    "tls.cluster_key_path": "cluster_tls",
}
"""Baton's settings that name files, and the value that names the Secret which has them."""
_BESIDE_S = 90
"""What a router without a controller takes to leave, besides draining, and some to spare."""


class Images(Section):
    """The images of the two targets of the Dockerfile."""

    cpu: str = Field("baton:0.1.0-cpu", min_length=1, description="Where nothing needs a GPU.")
    gpu: str = Field("baton:0.1.0-gpu", min_length=1, description="Engines on GPUs.")
    pull_policy: Literal["IfNotPresent", "Always", "Never"] = "IfNotPresent"
    pull_secret: Name | None = Field(None, description="Secret of the registry.")


class Size(Section):
    """What one pod takes; it is also its limit."""

    cpus: int = Field(1, ge=1, description="Cores.")
    memory: Quantity = Field("2Gi", description="Memory, with /dev/shm.")


class Placing(Section):
    """Which nodes of Kubernetes pods may go to."""

    node_selector: Labels = Field(default_factory=dict, description="Labels that a node needs.")
    tolerate: tuple[str, ...] = Field(
        (), strict=False, description="Keys of taints that are tolerated, whatever their value."
    )


class Pool(Size, Placing):
    """The pods of one pool."""

    workers_per_pod: int = Field(1, ge=1, description="Workers in one pod.")
    shm: Quantity = Field("2Gi", description="Shared memory: part of the memory.")


class Model(Section):
    """Where the model's folder is. All pods but Ray's head read it."""

    claim: Name | None = Field(None, description="PersistentVolumeClaim that many nodes can read.")
    host_path: str | None = Field(
        None, pattern=r"^/", description="The same folder on every node instead of a claim."
    )
    folder: str = Field("", pattern=r"^[^/].*$|^$", description="The model's folder in there.")

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.claim is None) == (self.host_path is None):
            raise ValueError("model takes one of claim and host_path")
        return self


class Secrets(Section):
    """Names of Secrets that somebody else makes; nothing secret is in the manifests."""

    api_keys: Name | None = Field(None, description="Has keys.json, as `baton keys` writes it.")
    tls: Name | None = Field(None, description="Has tls.crt and tls.key: the API's.")
    client_ca: Name | None = Field(None, description="Has ca.crt: whom clients are signed by.")
    cluster_tls: Name | None = Field(
        None, description="Has ca.crt, tls.crt, tls.key: between routers and workers."
    )


class Rdma(Section):
    """RDMA between pods of engines."""

    resource: str = Field(min_length=1, description="What the device plugin calls it.")
    count: int = Field(1, ge=1, description="Devices per pod.")
    huge_pages: Quantity | None = Field(None, description="Memory in pages of 2Mi, besides.")
    host_network: bool = Field(
        default=False, description="Engines use the node's network: where RDMA needs it."
    )
    net_devices: str | None = Field(None, description="UCX_NET_DEVICES, such as mlx5_0:1.")


class Redis(Section):
    """Where Ray's control store survives its head."""

    secret: Name = Field("baton-redis", description="Has password.")
    address: str | None = Field(
        None, min_length=1, description="host:port of a Redis. null = one is made here."
    )
    image: str = Field("redis:8.2.2-bookworm", min_length=1)
    storage: Quantity = Field("1Gi", description="Its volume, where it is made here.")


class Ray(Section):
    """How Ray runs under Baton."""

    version: str = Field("2.60.0", description="As in the images.")
    token: bool = Field(
        default=True, description="Whether Ray asks for a token, which KubeRay makes."
    )
    autoscaler: Literal["auto", "on", "off"] = Field(
        "auto", description="Whether waiting workers bring pods. auto = with scaling.mode auto."
    )
    idle_s: int = Field(60, ge=1, description="Seconds after which a pod without workers ends.")
    redis: Redis | None = Field(None, description="null = the cluster ends with Ray's head.")


class Network(Section):
    """Who may reach what."""

    policies: bool = Field(default=True, description="Whether NetworkPolicies are made.")
    client_namespaces: tuple[Name, ...] = Field(
        (), strict=False, description="Whose pods may use the API, besides the cluster's own."
    )
    client_cidrs: tuple[str, ...] = Field(
        (), strict=False, description="Addresses that may use the API, such as a load balancer's."
    )
    node_cidrs: tuple[str, ...] = Field(
        (), strict=False, description="The machines' own, where engines use their network."
    )
    operator_namespace: Name = Field("kuberay-operator", description="Where KubeRay runs.")
    monitoring_namespace: Name = Field("monitoring", description="Where Prometheus runs.")
    service: Literal["ClusterIP", "LoadBalancer", "NodePort"] = "ClusterIP"


class Monitoring(Section):
    """What the Prometheus operator and Grafana's sidecar pick up."""

    labels: Labels = Field(default_factory=dict, description="What the operator selects by.")
    key: Name | None = Field(
        None, description="Secret with an operator's API key as `key`. Needed with api_keys."
    )


class Values(Section):
    """Everything that can be chosen."""

    name: Annotated[Name, Field(max_length=40)] = "baton"
    namespace: Name = "baton"
    kind: Literal["RayCluster", "RayService"] = Field(
        "RayCluster", description="RayService: a changed cluster is built beside the old one."
    )
    image: Images = Field(default_factory=Images)
    head: Size = Field(default_factory=Size)
    controller: Size = Field(default_factory=Size)
    router: Size = Field(default_factory=Size)
    prefill: Pool = Field(default_factory=Pool)
    decode: Pool = Field(default_factory=Pool)
    together: Pool | None = Field(
        None,
        description="Pods that hold workers of both pools, workers_per_pod of each, so that KV "
        "stays on the GPUs' own links. null = each pool has pods of its own.",
    )
    model: Model | None = Field(None, description="null = the demo model in the image.")
    secrets: Secrets = Field(default_factory=Secrets)
    rdma: Rdma | None = None
    ray: Ray = Field(default_factory=Ray)
    network: Network = Field(default_factory=Network)
    monitoring: Monitoring | None = Field(None, description="null = nothing of it is made.")
    settings: Settings = Field(
        default_factory=Settings, description="Baton's own; `baton config show --all` lists them."
    )

    @model_validator(mode="before")
    @classmethod
    def _files_come_from_secrets(cls, tree: Any) -> Any:
        # First: else whoever gives one of two files would be asked for the other.
        taken = [key for key in IN_SECRETS if _has(tree, "settings", *key.split("."))]
        if taken:
            problems = [f"settings.{key} is given; use secrets.{IN_SECRETS[key]}" for key in taken]
            raise ValueError("; ".join(problems))
        return tree

    @model_validator(mode="after")
    def _device_is_known(self) -> Self:
        if self.settings.engine.device == "auto":
            raise ValueError(
                "settings.engine.device is auto; allowed: cpu or cuda, because whoever starts the "
                "engines does not run where they do"
            )
        for name, pool in self.pools.items():
            if pool.accelerator_type is not None:
                raise ValueError(
                    f"settings.{name}.accelerator_type is {pool.accelerator_type!r}, which Ray's "
                    f"autoscaler cannot see in a pod; use {name}.node_selector"
                )
        return self

    @model_validator(mode="after")
    def _ports_are_known(self) -> Self:
        router = self.settings.router
        if router.port == 0 or router.grpc_port_wanted == 0:
            raise ValueError("settings.router.port or grpc_port is 0; allowed: a fixed port")
        rays = {RAY_METRICS: "figures", NODE_HEALTH: "health"}
        for name, port in self.api_ports.items():
            if port in rays:
                raise ValueError(
                    f"settings.router: the port of {name} is {port}, where Ray has its "
                    f"{rays[port]} in every pod; allowed: another"
                )
        return self

    @model_validator(mode="after")
    def _somebody_makes_pods(self) -> Self:
        if self.settings.scaling.mode == "auto" and not self.autoscales:
            raise ValueError(
                "settings.scaling.mode is auto and ray.autoscaler off: nobody would make the pods "
                "that Baton asks for; allowed: another mode, or an autoscaler"
            )
        return self

    @model_validator(mode="after")
    def _pods_hold_their_workers(self) -> Self:
        for group, held in self.groups.items():
            size = self.size_of(group)
            wanted = sum(size.workers_per_pod * pool.cpus_per_worker for pool in held.values())
            if wanted > size.cpus:
                raise ValueError(f"{group}.cpus is {size.cpus}; its workers take {wanted:g}")
        return self

    @model_validator(mode="after")
    def _policies_let_in_who_should(self) -> Self:
        network = self.network
        if not network.policies:
            return self
        if self.on_node_network and not network.node_cidrs:
            raise ValueError(
                "rdma.host_network is true: engines come from addresses of machines; "
                "network.node_cidrs has to name those, or network.policies be false"
            )
        if self.settings.router.direct:
            raise ValueError(
                "settings.router.direct is true, and network.policies let clients reach routers "
                "only; allowed: false, or network.policies false"
            )
        if network.service != "ClusterIP" and not network.client_cidrs:
            raise ValueError(
                f"network.service is {network.service}, and network.policies let nobody in from "
                "outside; network.client_cidrs has to say whom, such as 0.0.0.0/0"
            )
        return self

    @model_validator(mode="after")
    def _figures_can_be_had(self) -> Self:
        if self.monitoring is None:
            return self
        if self.secrets.api_keys is not None and self.monitoring.key is None:
            raise ValueError("secrets.api_keys is given; monitoring.key has to be, too")
        if self.secrets.client_ca is not None:
            raise ValueError("secrets.client_ca is given; monitoring has no certificate to show")
        if not self.pages_at_api:
            raise ValueError(
                f"settings.router.front is {self.settings.router.front!r}; monitoring needs "
                "in-process, because /targets is at no known port otherwise"
            )
        return self

    @property
    def pools(self) -> dict[str, PoolSettings]:
        """What Baton is told of its pools."""
        return {"prefill": self.settings.prefill, "decode": self.settings.decode}

    @property
    def api_ports(self) -> dict[str, int]:
        """Where routers serve clients, by name."""
        router = self.settings.router
        found = {"api": router.port}
        if router.grpc_port_wanted is not None:
            found["grpc"] = router.grpc_port_wanted
        return found | {f"tenant-{n}": port for n, port in enumerate(router.front_tenants.values())}

    @property
    def groups(self) -> dict[str, dict[str, PoolSettings]]:
        """The groups of pods that run engines: which pools' workers each of them holds."""
        if self.together is not None:
            return {"together": self.pools}
        return {name: {name: pool} for name, pool in self.pools.items()}

    def size_of(self, group: str) -> Pool:
        """One pod of a group of engines. Raises AttributeError for another one."""
        size: Pool = getattr(self, group)
        return size

    def gpus_of(self, group: str) -> int:
        """GPUs of one pod of a group."""
        held, per_pod = self.groups[group].values(), self.size_of(group).workers_per_pod
        return math.ceil(sum(per_pod * self.settings.gpus_of(pool) for pool in held))

    @property
    def on_node_network(self) -> bool:
        """Whether engines use their machine's network."""
        return self.rdma is not None and self.rdma.host_network

    @property
    def autoscales(self) -> bool:
        """Whether Ray's autoscaler runs."""
        auto = self.ray.autoscaler == "auto" and self.settings.scaling.mode == "auto"
        return auto or self.ray.autoscaler == "on"

    @property
    def pages_at_api(self) -> bool:
        """Whether the port of the API has Baton's own pages, such as /ready."""
        return self.settings.router.front in {"auto", "in-process"}

    @property
    def leave_s(self) -> int:
        """Seconds that a pod has to end."""
        return math.ceil(self.settings.cluster.drain_timeout_s) + _BESIDE_S


def _has(tree: Any, *path: str) -> bool:
    for name in path:
        if not isinstance(tree, Mapping) or name not in tree:
            return False
        tree = tree[name]
    return True
