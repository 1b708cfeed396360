"""Who may come in: the keys of tenants, the keys without a tenant, and what each of them opens."""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from starlette.datastructures import Headers

from baton import api_keys
from baton.api_keys import ApiKey
from baton.errors import BatonError, Reason, StartupError, StartupFault
from baton.settings import Settings, process_environ
from baton.settings.access import AccessSettings
from baton.watched import Watched

_log = logging.getLogger(__name__)
_UNLOCKED = ("/health", "/ready", "/ui")
"""For probes; and the page itself, which holds no data and asks for a key."""
_OPERATORS = ("/metrics", "/targets", "/status", "/requests", "/ui/data", "/ui/request")
"""What tells of all tenants."""


class Holder(NamedTuple):
    """Who holds a key."""

    tenant: str | None = None
    """None = whoever the caller says it is."""
    operator: bool = True


class Access:
    """The keys of one cluster. Without any, everybody may come in, as an operator may.

    `plain` are keys without a tenant, as VLLM_API_KEY gives one. Raises OSError and ValueError for
    a file that cannot be read.
    """

    def __init__(
        self,
        settings: AccessSettings,
        plain: Sequence[str] = (),
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.separates = settings.separates()
        self._plain = tuple(_digest(key) for key in plain)
        self._keys: Watched[dict[str, ApiKey]] | None = None
        if settings.keys_path is not None:
            path = Path(settings.keys_path).expanduser()
            self._keys = Watched((path,), lambda: api_keys.read(path), now)
            if api_keys.readable_by_others(path):
                _log.warning("others can read the hashes of API keys", extra={"file": str(path)})

    @property
    def guarded(self) -> bool:
        """Whether anybody is asked for a key."""
        return self._keys is not None or bool(self._plain)

    def holder(self, headers: Headers) -> Holder:
        """Whose key the headers show. Raises BatonError UNAUTHENTICATED."""
        if not self.guarded:
            return Holder()
        key = _shown(headers)
        found = None if self._keys is None else api_keys.find(self._keys.latest(), key)
        if found is not None:
            return Holder(found.tenant, found.operator)
        digest = _digest(key)
        # All of them, so that the time does not tell which one was nearly right.
        if sum(hmac.compare_digest(digest, known) for known in self._plain):
            return Holder()
        wrong = "That API key is not valid." if key else "An API key is needed."
        raise BatonError(Reason.UNAUTHENTICATED, f"{wrong} Send it as Authorization: Bearer KEY.")


OPEN = Access(AccessSettings())
"""Everybody may come in."""


def access_of(settings: Settings, args: Namespace) -> Access:
    """As the settings say. `args`: those of vLLM's server, which has keys of its own.

    Raises StartupError if the file of keys cannot be used.
    """
    plain = args.api_key or [process_environ().get("VLLM_API_KEY")]
    try:
        return Access(settings.access, [key for key in plain if key])
    except (OSError, ValueError) as error:
        raise unusable(settings.access, error) from error


def unusable(settings: AccessSettings, error: Exception) -> StartupError:
    """What whoever starts the cluster reads of a file that cannot be used."""
    why = error.strerror if isinstance(error, OSError) else str(error)
    return StartupError(
        StartupFault.SETTINGS_INVALID,
        f"access.keys_path is {settings.keys_path}: {why}",
        hint="`baton keys add TENANT` makes the file and its first key.",
    )


def unlocked(path: str) -> bool:
    """Whether a path is for everybody."""
    return path in _UNLOCKED or (path.startswith("/ui/") and not _within(path, _OPERATORS))


def check_path(path: str, *, operator: bool) -> None:
    """Raises BatonError PERMISSION_DENIED for what is an operator's."""
    if not operator and _within(path, _OPERATORS):
        raise BatonError(Reason.PERMISSION_DENIED, f"{path} is for keys of operators.")


def tell(event: str, error: BatonError, **about: str) -> None:
    """Logs that a caller may not. What is refused for other reasons is told of by whoever did."""
    if error.reason in (Reason.UNAUTHENTICATED, Reason.PERMISSION_DENIED):
        _log.info(event, extra={"reason": error.reason.value, **about})


def _within(path: str, roots: Sequence[str]) -> bool:
    return any(path == root or path.startswith(f"{root}/") for root in roots)


def _shown(headers: Headers) -> str:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key:
        return key.strip()
    # As clients of Anthropic's API have it.
    return headers.get("x-api-key", "")


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
