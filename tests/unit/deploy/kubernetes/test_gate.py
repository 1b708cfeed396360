"""The gate of a RayService opens when Baton serves, and says when nobody does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from deploy.kubernetes.gate import Gate
from deploy.kubernetes.profiles import choose
from deploy.kubernetes.ray import GATE, gate_config
from deploy.rundir import RunDir, RunState, this_process


def test_it_is_made_once_the_cluster_serves(tmp_path: Path) -> None:
    home, me = RunDir(tmp_path), this_process()
    starting = RunState("baton", me.pid, me.started, 0.0, "auto", ray_owned=False)
    waits = []

    def pause(seconds: float) -> None:
        waits.append(seconds)
        home.write(starting if len(waits) == 1 else replace(starting, phase="serving"))

    gate = Gate("baton", home, pause)
    assert len(waits) == 2
    gate.check_health()
    # A worker of many is away.
    home.write(replace(starting, phase="degraded"))
    gate.check_health()
    home.write(replace(starting, phase="serving", pid=2**22 + 1))
    with pytest.raises(RuntimeError, match="does not serve"):
        gate.check_health()


def test_what_ray_serve_is_told_to_import_is_there() -> None:
    elsewhere = choose("rdma", None, ["settings.cluster.run_dir=/run/baton"])
    (application,) = gate_config(elsewhere)["applications"]
    module, _, name = application["import_path"].partition(":")
    assert application["import_path"] == GATE
    assert callable(getattr(__import__(module, fromlist=[name]), name))
    assert application["args"] == {"cluster": "baton", "run_dir": "/run/baton"}
