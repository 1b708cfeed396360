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


@pytest.fixture
def run_mark() -> Iterator[Mark]:
    found = mark()
    yield found
    assert found.left(20) == []


@pytest.fixture
def ray_beside(run_mark: Mark, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Ray that this cluster did not start."""
    folder, port = tmp_path_factory.mktemp("r"), free_port()
    ray = Path(sys.executable).with_name("ray")
    options = [
        *("--head", "--block", "--port", str(port), "--node-ip-address", "127.0.0.1"),
        *("--num-cpus", "4", "--object-store-memory", str(100 * 2**20)),
        *("--include-dashboard", "false", "--disable-usage-stats", "--temp-dir", str(folder)),
    ]
    # Its own folder for the address file, too: whoever says 'auto' meanwhile is not to join it.
    environment = {**os.environ, **run_mark.environment, **BESIDE, "RAY_TMPDIR": str(folder)}
    head = subprocess.Popen(
        [str(ray), "start", *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
    )
    try:
        until(lambda: _listens(port), 60, "Ray runs")
        yield f"127.0.0.1:{port}"
    finally:
        family = descendants(head.pid)
        head.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            head.wait(15)
        head.kill()
        head.wait()
        kill_all(family)


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0
