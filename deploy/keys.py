"""`baton keys`: makes, lists and revokes API keys. Running routers follow the file."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from baton import api_keys
from baton.api_keys import KEYS_MAX, ApiKey, KeyFile
from baton.errors import StartupError, StartupFault
from baton.settings.access import AccessSettings
from router.access import unusable

_MODE = 0o600


def run(access: AccessSettings, args: argparse.Namespace, write: Callable[[str], None]) -> None:
    """One of the commands. Raises StartupError for what they cannot do."""
    match args.command:
        case "keys add":
            _added(*add(access, args.tenant, operator=args.operator), write, as_json=args.json)
        case "keys revoke":
            key = revoke(access, args.id)
            text = json.dumps(row(key)) if args.json else f"revoked {key.id} of {key.tenant}"
            write(f"{text}\n")
        case _:
            found = listed(access)
            if args.json:
                write(json.dumps([row(key) for key in found]) + "\n")
            else:
                Console().print(table(found))


def _added(text: str, key: ApiKey, write: Callable[[str], None], *, as_json: bool) -> None:
    if as_json:
        write(json.dumps({**row(key), "key": text}) + "\n")
        return
    write(f"{text}\n")
    sys.stderr.write(f"[key {key.id} of {key.tenant}; nobody can show it again]\n")


def add(access: AccessSettings, tenant: str, *, operator: bool) -> tuple[str, ApiKey]:
    """A key of a tenant: the text to give out, which nobody can find out again, and its entry.

    Raises StartupError for a name or a file that cannot be used.
    """
    with _locked(access) as (path, keys):
        try:
            text, key = api_keys.new_key(tenant, _now(), operator=operator)
        except ValueError as error:
            raise StartupError(
                StartupFault.SETTINGS_INVALID,
                f"{tenant!r} is no name of a tenant",
                hint="Up to 64 letters, digits, dots, underscores and hyphens.",
            ) from error
        _write(path, {**keys, key.id: key})
    return text, key


def listed(access: AccessSettings) -> list[ApiKey]:
    """All keys, the oldest first. Raises StartupError. The file may belong to somebody else."""
    with _named(access) as path:
        return list(_read(path).values())


def revoke(access: AccessSettings, key_id: str) -> ApiKey:
    """The key, which opens nothing any more. Raises StartupError if there is none."""
    with _locked(access) as (path, keys):
        if key_id not in keys:
            raise StartupError(
                StartupFault.SETTINGS_INVALID,
                f"there is no key {key_id!r}",
                hint="`baton keys list` shows all of them.",
            )
        key = keys[key_id]
        if key.revoked is None:
            key = key.model_copy(update={"revoked": _now()})
            _write(path, {**keys, key_id: key})
    return key


def table(keys: list[ApiKey]) -> Table:
    """Keys for people."""
    found = Table("id", "tenant", "opens", "created", "revoked", box=None, header_style="dim")
    for key in keys:
        opens = "everything" if key.operator else "the API"
        style = "dim" if key.revoked else ""
        found.add_row(key.id, key.tenant, opens, key.created, key.revoked or "-", style=style)
    return found


def row(key: ApiKey) -> dict[str, object]:
    """A key for programs; its hash is nobody's business."""
    return key.model_dump(exclude={"sha256"})


@contextlib.contextmanager
def _locked(access: AccessSettings) -> Iterator[tuple[Path, Mapping[str, ApiKey]]]:
    """The file and what is in it, while nobody else changes it."""
    with _named(access) as path, path.with_name(f"{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield path, _read(path)


def _read(path: Path) -> Mapping[str, ApiKey]:
    return api_keys.read(path) if path.exists() else {}


@contextlib.contextmanager
def _named(access: AccessSettings) -> Iterator[Path]:
    """The file of the settings. Raises StartupError: there is none, or it cannot be used."""
    if access.keys_path is None:
        raise StartupError(
            StartupFault.SETTINGS_INVALID,
            "access.keys_path is null",
            hint="Name the file of keys in the settings, or with --set access.keys_path=FILE.",
        )
    try:
        yield Path(access.keys_path).expanduser()
    except (OSError, ValueError) as error:
        raise unusable(access, error) from error


def _write(path: Path, keys: Mapping[str, ApiKey]) -> None:
    """Puts the file in place in one step: no router ever reads half of it."""
    if len(keys) > KEYS_MAX:
        raise ValueError(f"more than {KEYS_MAX} keys")
    # Through a link, if it is one.
    path = path.resolve()
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    document = KeyFile(keys=tuple(keys.values())).model_dump(mode="json")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE)
        with os.fdopen(descriptor, "w") as file:
            if path.exists():
                # Whoever could read it can read it still: routers may be another user's.
                was = path.stat()
                os.fchown(descriptor, was.st_uid, was.st_gid)
                os.fchmod(descriptor, stat.S_IMODE(was.st_mode))
            file.write(json.dumps(document, indent=1) + "\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
