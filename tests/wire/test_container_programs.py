"""The programs of the image: what ends with a pod, and what goes on without it.

Ray and Baton are stand-ins that note what they are told. Nothing but them is in the path, so that
no process of this machine can be meant by what the programs ask for.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.processes import is_alive

PROGRAMS = Path(__file__).parents[2] / "deploy" / "container"
BASH = shutil.which("bash") or "/bin/bash"
START = """ray start  --address=head:6379  --block  --resources="{\\"a b\\": 1}" """


@pytest.fixture
def stand_ins(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("ray", "baton", "pkill", "pgrep"):
        stand_in(folder, name, "true")
    for name in ("sleep", "timeout"):
        (folder / name).symlink_to(shutil.which(name) or f"/bin/{name}")
    return folder


def stand_in(folder: Path, name: str, then: str) -> None:
    """A program that notes its arguments, one per line, and does one thing more."""
    said = folder.parent / f"{name}.said"
    text = f'#!{BASH}\nprintf "%s\\n" "$@" >> {said}\necho >> {said}\n{then}\n'
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


def no_pause(folder: Path, then: str = "true") -> None:
    """A stand-in for `sleep`, which without `then` does not wait."""
    # A link to the real one: not to be written through.
    (folder / "sleep").unlink()
    stand_in(folder, "sleep", then)


def said(folder: Path, name: str) -> list[str]:
    """What a stand-in was told, call by call, arguments joined by |."""
    path = folder.parent / f"{name}.said"
    calls = path.read_text().split("\n\n") if path.exists() else []
    return ["|".join(call.split("\n")) for call in calls if call]


def run(program: str, *words: str, folder: Path) -> subprocess.Popen[str]:
    env = {"PATH": str(folder), "KUBERAY_GEN_RAY_START_CMD": START}
    command = [BASH, str(PROGRAMS / program), *words]
    return subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_controller_joins_ray_without_waiting_there(stand_ins: Path) -> None:
    stand_in(stand_ins, "baton", "exit 3")
    no_pause(stand_ins)
    assert run("baton-controller", "--config", "a b.yaml", folder=stand_ins).wait(10) == 3
    assert said(stand_ins, "sleep") == ["60"]
    assert said(stand_ins, "ray") == ['start|--address=head:6379|--resources={"a b": 1}']
    assert said(stand_ins, "baton") == ["serve|--config|a b.yaml"]


def test_without_ray_there_is_no_controller(stand_ins: Path) -> None:
    stand_in(stand_ins, "ray", "exit 1")
    no_pause(stand_ins)
    assert run("baton-controller", folder=stand_ins).wait(10) == 1
    assert said(stand_ins, "baton") == []
    assert said(stand_ins, "sleep") == ["60"]


@pytest.mark.parametrize("who", ["baton", "ray"])
def test_a_failure_stays_for_a_minute_or_to_the_end_of_the_pod(stand_ins: Path, who: str) -> None:
    stand_in(stand_ins, who, "exit 3")
    no_pause(stand_ins, f"exec {shutil.which('sleep')} $1")
    program = run("baton-controller", folder=stand_ins)
    until(lambda: said(stand_ins, "sleep") == ["60"])
    assert program.poll() is None
    program.send_signal(signal.SIGTERM)
    assert program.wait(10) == 128 + signal.SIGTERM


def test_an_end_without_failure_is_one(stand_ins: Path) -> None:
    no_pause(stand_ins)
    assert run("baton-controller", folder=stand_ins).wait(10) == 0
    assert said(stand_ins, "sleep") == []


def test_the_end_of_its_pod_is_not_heard_by_the_controller(stand_ins: Path) -> None:
    pid = stand_ins.parent / "pid"
    heard = stand_ins.parent / "heard"
    waits = f"trap 'echo > {heard}' TERM; echo $$ > {pid}; while :; do sleep 0.05; done"
    stand_in(stand_ins, "baton", waits)
    program = run("baton-controller", folder=stand_ins)
    until(lambda: pid.exists() and bool(pid.read_text()))
    program.send_signal(signal.SIGTERM)
    assert program.wait(10) == 128 + signal.SIGTERM
    until(lambda: not is_alive(int(pid.read_text())))
    assert not heard.exists()


def test_who_leaves_has_ray_place_nothing_more_there(stand_ins: Path) -> None:
    gone = stand_ins.parent / "gone"
    stand_in(stand_ins, "pgrep", f"[ -e {gone} ] && exit 1; echo > {gone}; exit 0")
    assert run("baton-leave", "60", folder=stand_ins).wait(10) == 0
    (drained,) = said(stand_ins, "ray")
    assert drained.startswith("drain-node|--reason|DRAIN_NODE_REASON_PREEMPTION")
    assert drained.endswith("--deadline-remaining-seconds|60")
    assert said(stand_ins, "pkill") == ["-TERM|-f|^ray::(WorkerProcess|RouterProcess)"]
    assert len(said(stand_ins, "pgrep")) == 2


def test_leaving_has_an_end_and_needs_nobody(stand_ins: Path) -> None:
    assert run("baton-leave", "1", folder=stand_ins).wait(10) == 0
    stand_in(stand_ins, "pkill", "exit 1")
    asked = len(said(stand_ins, "pgrep"))
    assert run("baton-leave", "60", folder=stand_ins).wait(10) == 0
    assert len(said(stand_ins, "pgrep")) == asked


def test_a_ray_that_is_gone_keeps_nobody_from_leaving(stand_ins: Path) -> None:
    stand_in(stand_ins, "ray", "exit 1")
    stand_in(stand_ins, "pgrep", "exit 1")
    program = run("baton-leave", "60", folder=stand_ins)
    assert program.wait(10) == 0
    assert "Ray was not told" in (program.stderr.read() if program.stderr else "")
    assert said(stand_ins, "pkill")
