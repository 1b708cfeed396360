"""Pack, spread and addresses on a real Ray of two nodes, with tiny actors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.conftest import APART

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]
ROOT = Path(__file__).parents[2]
CODE = "import sys; from tests.cluster.two_nodes import main; main(*sys.argv[1:])"


def test_two_nodes(ray_of_two: str, tmp_path: Path) -> None:
    # A process of its own: one process knows one Ray.
    done = subprocess.run(
        [sys.executable, "-c", CODE, ray_of_two, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, **APART},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    both = {"127.0.0.2", "127.0.0.3"}

    assert len({listens for listens, _, _ in said["pack"]}) == 1, said["pack"]
    assert {listens for listens, _, _ in said["spread"]} == both, said["spread"]
    assert [listens for listens, _, _ in said["here"]] == [said["own"]]
    for listens, reached, variable in said["pack"] + said["spread"]:
        assert (listens, variable) == (reached, "yes")

    why = "waits for 8 CPU on one node; none of 2 has that, the largest has 2 CPU"
    assert said["wait"] == {"waiting": {"decode-9 1": why}, "left": [], "then": {}}
    assert said["left"] == []
    refused = {host for host, message in said["refusals"].items() if message}
    assert refused == {"127.0.0.1", "10.0.0.7"}
    assert said["refusals"]["127.0.0.1"].startswith("cluster.bind_host is '127.0.0.1', but")
