"""Certificates come with their keys, or not at all."""

import pytest
from pydantic import ValidationError

from baton.settings.tls import TlsSettings

CLUSTER = {"cluster_ca_path": "a", "cluster_cert_path": "c", "cluster_key_path": "k"}


def test_without_certificates_nothing_is_encrypted() -> None:
    tls = TlsSettings()
    assert (tls.public, tls.cluster, tls.scheme) == (False, False, "http")


def test_both_kinds_stand_alone() -> None:
    public = TlsSettings(cert_path="c", key_path="k")
    assert (public.public, public.cluster, public.scheme) == (True, False, "https")
    inside = TlsSettings.model_validate(CLUSTER)
    assert (inside.public, inside.cluster) == (False, True)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"cert_path": "c"}, "tls.key_path is null"),
        ({"key_path": "k"}, "tls.cert_path is null"),
        ({"client_ca_path": "a"}, "tls.cert_path is null"),
        *(
            ({k: v for k, v in CLUSTER.items() if k != out}, f"tls.{out} is null")
            for out in CLUSTER
        ),
    ],
)
def test_what_is_missing_is_named(given: dict[str, str], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        TlsSettings.model_validate(given)
