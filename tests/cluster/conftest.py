"""A Ray that no cluster under test started, and the proof that nothing of a test is left."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.leftovers import Mark, mark
from cluster.processes import descendants, kill_all
from tests.cluster.asking import free_port, until

BESIDE = {
    # Else Ray takes loopback for the machine's own address, on the joining side too.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
}
"""The environment of a Ray that is joined, and of whoever joins it."""
APART = {**BESIDE, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1"}
"""The same of a Ray of several nodes. Its nodes are at loopback addresses other than 127.0.0.1."""


@pytest.fixture
def run_mark() -> Iterator[Mark]:
    found = mark()
    yield found
    assert found.left(20) == []


@pytest.fixture
def ray_beside(run_mark: Mark, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Ray that this cluster did not start."""
    folder, port = tmp_path_factory.mktemp("r"), free_port()
    head = ("--head", "--port", str(port), "--include-dashboard", "false")
    with _raylet(folder, {**run_mark.environment, **BESIDE}, "127.0.0.1", "4", *head):
        until(lambda: _listens("127.0.0.1", port), 60, "Ray runs")
        yield f"127.0.0.1:{port}"


@pytest.fixture
def ray_of_two(run_mark: Mark, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Ray of two nodes, which take each other for another machine."""
    folder, port = tmp_path_factory.mktemp("r"), free_port()
    environment = {**run_mark.environment, **APART}
    head = ("--head", "--port", str(port), "--include-dashboard", "false")
    with _raylet(folder, environment, "127.0.0.2", "2", *head):
        until(lambda: _listens("127.0.0.2", port), 60, "Ray runs")
        address = f"127.0.0.2:{port}"
        with _raylet(folder, environment, "127.0.0.3", "2", "--address", address):
            yield address


@contextlib.contextmanager
def _raylet(
    folder: Path, environment: dict[str, str], host: str, cpus: str, *more: str
) -> Iterator[None]:
    ray = Path(sys.executable).with_name("ray")
    options = [
        *("--block", "--node-ip-address", host, "--disable-usage-stats"),
        *("--num-cpus", cpus, "--object-store-memory", str(100 * 2**20)),
        *(("--temp-dir", str(folder)) if "--head" in more else ()),
    ]
    # Its own folder for the address file, too: whoever says 'auto' meanwhile is not to join it.
    process = subprocess.Popen(
        [str(ray), "start", *options, *more],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **environment, "RAY_TMPDIR": str(folder)},
        start_new_session=True,
    )
    try:
        yield
    finally:
        family = descendants(process.pid)
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(15)
        process.kill()
        process.wait()
        kill_all(family)


def _listens(host: str, port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex((host, port)) == 0
