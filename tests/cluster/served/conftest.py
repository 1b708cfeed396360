"""One cluster, started as a user starts it, for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.leftovers import mark
from benchmarks.served import Served, serving


@pytest.fixture(scope="package")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="package")
def served(run_dir: Path) -> Iterator[Served]:
    """Running `baton serve`; at the end it must stop cleanly and leave nothing."""
    run_mark = mark()
    options = ["--set", "model.tool_call_parser=hermes", "--set", "router.request_timeout_s=60"]
    with serving(options, run_dir, run_mark.environment) as one:
        yield one
    assert one.process.returncode == 0, "\n".join(one.lines[-30:])
    assert run_mark.left() == []
