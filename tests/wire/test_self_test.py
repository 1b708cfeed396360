"""The transport self-test between two real NIXL agents in two processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("nixl")

pytestmark = pytest.mark.wire

_ENGINE = Path(__file__).with_name("self_test_engine.py")
_ROOT = Path(__file__).parents[2]


def run(scenario: str, transports: str) -> dict:
    """A fresh process: UCX reads its environment once."""
    environ = {**os.environ, "UCX_TLS": transports, "UCX_NET_DEVICES": "lo"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.wire.self_test_engine", scenario],
        cwd=_ROOT, env=environ, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(("transports", "least"), [("tcp,shm", 0.3), ("tcp", 0.1)])
def test_a_plausible_rate(transports: str, least: float) -> None:
    found = run("rate", transports)
    assert found["verdict"] == "ok"
    assert least < found["gb_per_s"] < 200
    assert found["writes"] > 3
    assert found["seconds"] < 3
    assert found["untouched"]


@pytest.mark.parametrize("transports", ["tcp,shm", "tcp"])
def test_a_stopped_peer_is_silent_in_time_and_fast_again_later(transports: str) -> None:
    found = run("stopped", transports)
    assert found["first"] == "silent"
    assert 1.0 <= found["first_s"] < 2.0
    assert found["longest_turn_s"] < 0.5
    assert found["second"] == "ok"
    assert found["untouched"]


def test_a_peer_stopped_in_mid_test_is_silent(tmp_path: Path) -> None:
    found = run("stopped-later", "tcp")
    assert found["first"] == "silent"
    assert found["longest_turn_s"] < 0.5
    assert found["untouched"]


def test_nothing_stays_behind() -> None:
    before = set(Path("/dev/shm").iterdir())
    run("rate", "tcp,shm")
    time.sleep(0.1)
    left = {path for path in Path("/dev/shm").iterdir() if "ucx" in path.name} - before
    assert not left
