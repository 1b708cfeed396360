"""API keys: what is given out once, and what is kept of it.

A key is `bt-<id>-<secret>` with 256 random bits in its secret. Slow hashes are for passwords,
which can be guessed; 2^256 secrets cannot, however fast the hash, so that SHA-256 of the whole key
is enough, and cheap enough for every request. The id is part of what is hashed: no two keys share
a hash.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from baton.settings.admission import TenantName
from baton.settings.section import Section

KEYS_MAX = 100_000
_FILE_BYTES_MAX = 64 * 1024 * 1024
_SECRET_BYTES = 32
_PREFIX = "bt"
_Hex64 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ApiKey(Section):
    """One key as the file has it. Times as in 2026-01-31T12:00:00Z."""

    id: str = Field(pattern=r"^[0-9a-z]{1,32}$")
    tenant: TenantName
    sha256: _Hex64
    operator: bool = False
    """Whether it opens the operator's pages, and may act for any tenant."""
    created: str
    revoked: str | None = None

    def fits(self, key: str) -> bool:
        """Whether this is the key. How long that takes tells nothing of the right one."""
        return hmac.compare_digest(_hash(key), self.sha256)


class KeyFile(Section):
    """What is in the file, as JSON."""

    version: Literal[1] = 1
    keys: tuple[ApiKey, ...] = Field((), max_length=KEYS_MAX)


def new_key(tenant: str, created: str, *, operator: bool = False) -> tuple[str, ApiKey]:
    """A key to give out, and what to keep. Raises ValueError for no name of a tenant."""
    key_id = secrets.token_hex(6)
    key = f"{_PREFIX}-{key_id}-{secrets.token_urlsafe(_SECRET_BYTES)}"
    kept = ApiKey(id=key_id, tenant=tenant, sha256=_hash(key), operator=operator, created=created)
    return key, kept


def find(keys: Mapping[str, ApiKey], key: str) -> ApiKey | None:
    """The entry of a key by which its holder may come in; `keys` by id."""
    _, _, rest = key.partition("-")
    found = keys.get(rest.partition("-")[0])
    return found if found is not None and found.fits(key) and found.revoked is None else None


def read(path: Path) -> dict[str, ApiKey]:
    """The keys by id. Raises OSError, and ValueError for what is no such file."""
    found = path.stat()
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ValueError(f"{path}: others may write to it; allowed: mode 0600")
    if found.st_size > _FILE_BYTES_MAX:
        raise ValueError(f"{path}: larger than {_FILE_BYTES_MAX} bytes")
    try:
        keys = KeyFile.model_validate_json(path.read_bytes()).keys
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{path}: {where}: {first['msg']}") from None
    by_id = {key.id: key for key in keys}
    if len(by_id) < len(keys):
        raise ValueError(f"{path}: an id stands twice")
    return by_id


def readable_by_others(path: Path) -> bool:
    """Whether its hashes can be read by other users: no secret, and none of their business."""
    return bool(path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH))


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
