"""Two prefill workers and one decode worker, for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.leftovers import mark
from benchmarks.served import Served, serving
from tests.certificates import Authority
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
    *("--set", "access.separate_caches=always"),
    *("--set", "router.direct=true"),
]


@pytest.fixture(scope="package")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="package")
def served(run_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Running `baton serve`; at the end it must stop cleanly and leave nothing.

    Its router and workers show each other certificates.
    """
    run_mark = mark()
    options = [*OPTIONS, *_certificates(tmp_path_factory.mktemp("certificates"))]
    with serving(options, run_dir, run_mark.environment) as one:
        until(lambda: serves(one), BACK_S, "service")
        yield one
    assert one.process.returncode == 0, "\n".join(one.lines[-30:])
    assert run_mark.left() == []


def _certificates(folder: Path) -> list[str]:
    authority = Authority(folder)
    cert, key = authority.issue("cluster")
    files = {"ca": authority.path, "cert": cert, "key": key}
    given = (("--set", f"tls.cluster_{name}_path={path}") for name, path in files.items())
    return [word for pair in given for word in pair]
