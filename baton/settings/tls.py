"""Certificates: of the front door, and of the cluster's own connections."""

from typing import Self

from pydantic import Field, model_validator

from baton.settings.section import Section

_PUBLIC = ("cert_path", "key_path")
_CLUSTER = ("cluster_ca_path", "cluster_cert_path", "cluster_key_path")


class TlsSettings(Section):
    """Certificates (PEM files) of the front door, and of the cluster's own connections.

    Renewed files are used for new connections without a restart.
    """

    cert_path: str | None = Field(
        None,
        min_length=1,
        description="Certificate chain of the HTTP and gRPC endpoints, for clients. null = "
        "without encryption.",
    )
    key_path: str | None = Field(
        None,
        min_length=1,
        description="Its private key, without a passphrase. null = there is none.",
    )
    client_ca_path: str | None = Field(
        None,
        min_length=1,
        description="Certificates of authorities: clients have to show a certificate that one of "
        "them has signed. null = they need none.",
    )
    cluster_ca_path: str | None = Field(
        None,
        min_length=1,
        description="Certificate of the cluster's own authority: routers and workers talk to those "
        "only that show a certificate of it, and encrypted. Whoever has one can do what a router "
        "can. null = without, anybody who reaches a worker's port can.",
    )
    cluster_cert_path: str | None = Field(
        None,
        min_length=1,
        description="Certificate chain that routers and workers show each other, for server and "
        "client use, on every machine. null = there is none.",
    )
    cluster_key_path: str | None = Field(
        None,
        min_length=1,
        description="Its private key, without a passphrase. null = there is none.",
    )
    cluster_name: str = Field(
        "baton",
        min_length=1,
        description="DNS name in that certificate. The same for all workers, because their "
        "addresses come and go.",
    )

    @property
    def public(self) -> bool:
        """Whether clients are served with encryption."""
        return self.cert_path is not None

    @property
    def scheme(self) -> str:
        """Of the addresses that clients are given."""
        return "https" if self.public else "http"

    @property
    def cluster(self) -> bool:
        """Whether routers and workers prove to each other who they are."""
        return self.cluster_ca_path is not None

    @model_validator(mode="after")
    def _belong_together(self) -> Self:
        for names in (_PUBLIC, _CLUSTER):
            missing = [name for name in names if getattr(self, name) is None]
            if 0 < len(missing) < len(names):
                given = next(name for name in names if name not in missing)
                raise ValueError(
                    f"tls.{missing[0]} is null and tls.{given} is not; allowed: all of "
                    f"{', '.join(f'tls.{name}' for name in names)}, or none"
                )
        if self.client_ca_path is not None and not self.public:
            raise ValueError(
                "tls.client_ca_path is given and tls.cert_path is null; allowed: both, because "
                "clients show certificates over TLS only"
            )
        return self
