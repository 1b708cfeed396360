"""Two prefill workers and one decode worker, for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.leftovers import mark
from benchmarks.served import Served, serving
from tests.cluster.asking import BACK_S, serves, until

OPTIONS = [
    *("--prefill", "2"),
    # What is computed again has other batch shapes: in bfloat16 other tokens would win near ties.
    *("--set", "model.dtype=float32"),
    *("--set", "router.disaggregate=always"),
    *("--set", "router.queue_ahead_s=0.2"),
    *("--set", "slo.ttft_s=1"),
    *("--set", "admission.shed_at=0"),
    *("--set", "cluster.restart_backoff_s=0.2"),
]


@pytest.fixture(scope="package")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="package")
def served(run_dir: Path) -> Iterator[Served]:
    """Running `baton serve`; at the end it must stop cleanly and leave nothing."""
    run_mark = mark()
    with serving(OPTIONS, run_dir, run_mark.environment) as one:
        until(lambda: serves(one), BACK_S, "service")
        yield one
    assert one.process.returncode == 0, "\n".join(one.lines[-30:])
    assert run_mark.left() == []
