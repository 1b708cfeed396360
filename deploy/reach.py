"""How the command line reaches a router: where it is, and by what it is let in."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from baton.errors import StartupError, StartupFault
from baton.settings.model import is_loopback

CONNECT_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Reach:
    """A router's address, and what is shown to it. `ca`, `cert`, `cert_key` are PEM files."""

    url: str
    key: str | None = field(default=None, repr=False)
    ca: Path | None = None
    """None = the authorities that this machine trusts."""
    cert: Path | None = None
    cert_key: Path | None = None
    """None = it is in the file of the certificate."""
    own: bool = False
    """A cluster of this user told its address."""

    def client(self, silence_s: float) -> httpx.Client:
        """Connections to it. Raises StartupError for files that cannot be used."""
        return httpx.Client(
            base_url=self.url,
            headers={"authorization": f"Bearer {self.key}"} if self.key else {},
            timeout=httpx.Timeout(silence_s, connect=CONNECT_TIMEOUT_S),
            verify=self.trust(),
            trust_env=self.by_proxy,
        )

    @property
    def by_proxy(self) -> bool:
        """Whether a proxy for the web may be asked: never for a cluster of this user."""
        return not (self.own or is_loopback(httpx.URL(self.url).host))

    def trust(self) -> ssl.SSLContext | bool:
        """Whom to believe; True = as this machine does. Raises StartupError as `client` does."""
        if self.ca is None and self.cert is None:
            return True
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.cert is not None:
                context.load_cert_chain(self.cert, self.cert_key)
        except OSError as error:
            raise StartupError(
                StartupFault.SETTINGS_INVALID,
                f"--ca, --cert and --cert-key cannot be used: {error}",
                hint="They are PEM files: authorities, your certificate, and its key.",
            ) from error
        return context
