"""A cluster over two hosts: KV between them, one cut off for a while, nothing lost or left."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.hosts_net import why_not

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]


def test_a_host_that_is_cut_off_for_a_moment_costs_no_request() -> None:
    if (missing := why_not()) is not None:
        pytest.skip(f"no hosts can be made here: {missing}")
    command = [sys.executable, "-m", "benchmarks.hosts", "--short"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=380, check=False
    )
    assert done.stdout, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["ok"], f"{found}\n{done.stderr}"
    assert found["kv_over"] == "tcp"
    assert found["left"] == []
    (cut,) = found["cuts"]
    assert cut["restarted"] == []
    assert cut["served_during"] > 0
