"""What Baton itself is told on Kubernetes: what was chosen, and what follows from the pods."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import yaml

from deploy.kubernetes.profiles import invalid, merged
from deploy.kubernetes.values import Values

FOLDER = "/etc/baton"
FILE = f"{FOLDER}/baton.yaml"
MODEL = "/model"
KEYS = "/etc/baton-keys"
TLS = "/etc/baton-tls"
CLIENT_CA = "/etc/baton-client-ca"
CLUSTER_TLS = "/etc/baton-cluster-tls"


def resource_of(part: str) -> str:
    """The resource of Ray that marks the pods where this part runs."""
    return f"baton-{part}"


def own_settings(values: Values) -> dict[str, Any]:
    """The settings file as a tree. Raises StartupError for what is not the user's to say here."""
    given = values.settings.model_dump(mode="json", exclude_unset=True)
    owned = _owned(values)
    taken = [
        f"settings.{section}.{key} is given; it follows from the other values"
        for section, keys in owned.items()
        for key in keys
        if key in given.get(section, {})
    ]
    if taken:
        raise invalid(*taken)
    return merged(merged({"log": {"format": "json"}}, given), owned)


def as_text(values: Values) -> str:
    """The settings file."""
    text: str = yaml.safe_dump(own_settings(values), sort_keys=True, width=100)
    return text


def digest(values: Values) -> str:
    """Changes with the settings, so that pods which read them change with them."""
    return hashlib.sha256(as_text(values).encode()).hexdigest()[:16]


def config_map(values: Values) -> str:
    """Where pods find them. A RayService has two clusters for a while, each with its own: the old
    one must not read what is meant for the next."""
    name = f"{values.name}-settings"
    return f"{name}-{digest(values)}" if values.kind == "RayService" else name


def _owned(values: Values) -> dict[str, dict[str, Any]]:
    owned: dict[str, dict[str, Any]] = {
        # RAY_ADDRESS, which KubeRay sets in every pod, is what `auto` finds.
        "cluster": {"name": values.name, "ray_address": "auto", "bind_host": "node"},
        "router": {"host": "0.0.0.0", "resources": {resource_of("router"): 1}},  # noqa: S104
        "prefill": {"resources": {resource_of("prefill"): 1}},
        "decode": {"resources": {resource_of("decode"): 1}},
    }
    if values.model is not None:
        owned["model"] = {"path": f"{MODEL}/{values.model.folder}".rstrip("/")}
    return merged(owned, _secret_files(values))


def _secret_files(values: Values) -> Mapping[str, Mapping[str, str]]:
    secrets = values.secrets
    tls: dict[str, str] = {}
    if secrets.tls is not None:
        tls |= {"cert_path": f"{TLS}/tls.crt", "key_path": f"{TLS}/tls.key"}
    if secrets.client_ca is not None:
        tls |= {"client_ca_path": f"{CLIENT_CA}/ca.crt"}
    if secrets.cluster_tls is not None:
        tls |= {
            "cluster_ca_path": f"{CLUSTER_TLS}/ca.crt",
            "cluster_cert_path": f"{CLUSTER_TLS}/tls.crt",
            "cluster_key_path": f"{CLUSTER_TLS}/tls.key",
        }
    keys = {} if secrets.api_keys is None else {"keys_path": f"{KEYS}/keys.json"}
    return {name: found for name, found in (("tls", tls), ("access", keys)) if found}
