"""Ctrl-C while engines load: what they keep on disk for their start goes with them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from benchmarks.leftovers import mark
from tests.cluster.asking import until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]
ENDED_S = 60.0


def _engines_start() -> bool:
    return any(Path(tempfile.gettempdir()).glob("baton-engine-*"))


def test_a_start_that_is_cut_off_leaves_nothing(tmp_path: Path) -> None:
    run_mark = mark()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "deploy.cli", "serve", "--port", "0"),
            *("--set", f"cluster.run_dir={tmp_path}", "--set", "cluster.ray_address=local"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **run_mark.environment},
    )
    try:
        until(_engines_start, 90, "an engine starts")
        process.send_signal(signal.SIGINT)
        process.wait(ENDED_S)
    finally:
        process.kill()
        process.wait()
    assert run_mark.left() == []
