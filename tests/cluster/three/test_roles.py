"""A worker changes its role both ways with requests running, and stays the same process."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.served import Served
from deploy import cli
from tests.cluster.asking import BACK_S, serves, status, until
from tests.cluster.streams import Streams

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]


def _roles(served: Served) -> dict[str, tuple[str, int]]:
    page = status(served)
    pids = {m["worker_id"]: m["pid"] for m in page["members"]}
    return {w["worker_id"]: (w["role"], pids[w["worker_id"]]) for w in page["workers"] if w["up"]}


def _working_as(served: Served, role: str) -> int:
    return sum(its == role for its, _ in _roles(served).values())


def test_a_worker_changes_its_role_both_ways_with_requests_running(
    served: Served, run_dir: Path
) -> None:
    until(lambda: len(_roles(served)) == 3, BACK_S, "all are up")
    pid = {name: number for name, (_, number) in _roles(served).items()}
    restarts = [m["restarts"] for m in status(served)["members"]]
    for counts, role in (("prefill=1 decode=2", "decode"), ("prefill=2 decode=1", "prefill")):
        streams = Streams(served, 4)
        until(streams.all_run, 60, "all streams run")
        assert cli.main(["scale", *counts.split(), "--set", f"cluster.run_dir={run_dir}"]) == 0
        until(lambda role=role: _working_as(served, role) == 2, 20, f"one more is {role}")
        assert all(serves(served) for _ in range(4))
        streams.wait()
        assert set(streams.ends) == {"data: [DONE]"}
    assert {name: number for name, (_, number) in _roles(served).items()} == pid
    assert [m["restarts"] for m in status(served)["members"]] == restarts
