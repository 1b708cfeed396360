"""One cluster, started as a user starts it, for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.leftovers import mark
from benchmarks.served import Served, serving
from tests.collector import Collector, collecting

DEADLINE_S = 2.0
SETTINGS = (
    "model.tool_call_parser=hermes",
    "router.request_timeout_s=60",
    "cluster.restart_backoff_s=0.2",
    # Prompts are transferred in many writes, and each is checked.
    "engine.max_batched_tokens=256",
    "kv_transfer.verify=full",
    f"kv_transfer.write_deadline_s={DEADLINE_S}",
    # Other work has the same cores: what is slow then is not to be refused.
    "admission.shed_at=0",
    # Those who say so are traced.
    "tracing.sample_ratio=0",
)


@pytest.fixture(scope="package")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="package")
def collector() -> Iterator[Collector]:
    with collecting() as one:
        yield one


@pytest.fixture(scope="package")
def served(run_dir: Path, collector: Collector) -> Iterator[Served]:
    """Running `baton serve`; at the end it must stop cleanly and leave nothing."""
    run_mark = mark()
    traced = f"tracing.otlp_endpoint={collector.url}"
    options = [word for setting in (*SETTINGS, traced) for word in ("--set", setting)]
    with serving(options, run_dir, run_mark.environment) as one:
        yield one
    assert one.process.returncode == 0, "\n".join(one.lines[-30:])
    assert run_mark.left() == []
